/*
 * Trains an adapter on one sentence, saves it, and samples from it. Against the local server:
 *
 *     tinkex serve --addr 127.0.0.1:8000
 *     export TINKER_BASE_URL=http://127.0.0.1:8000 TINKER_API_KEY=tml-local
 *     cc train.c $(pkg-config --cflags --libs tinkex) -o train && ./train
 */
#include <stdio.h>
#include <stdlib.h>

#include <tinkex.h>

static const char PROMPT[] = "the quick brown ";
static const char COMPLETION[] = "fox jumps";

/* Ends the program if a call failed. */
static void check(tinkex_error *error) {
    if (error != NULL) {
        fprintf(stderr, "%s\n%s\n", tinkex_error_message(error), tinkex_error_causes(error));
        tinkex_error_free(error);
        exit(EXIT_FAILURE);
    }
}

/* The mean negative log-probability of the completion's tokens, and its gradient: a loss of one's own. */
static int32_t mean_loss(void *context, tinkex_loss_call *call) {
    const size_t first = *(const size_t *)context;
    size_t i, k, tokens = 0;
    double sum = 0;
    for (i = 0; i < call->count; i++) {
        tokens += call->lengths[i] - first;
    }
    for (i = 0; i < call->count; i++) {
        for (k = first; k < call->lengths[i]; k++) {
            sum -= call->logprobs[i][k];
            call->gradients[i][k] = -1.0f / (float)tokens;
        }
    }
    call->loss = sum / (double)tokens;
    return tinkex_loss_metric(call, "tokens", (double)tokens, NULL);
}

int main(void) {
    tinkex_error *error = NULL;
    tinkex_service *service = NULL;
    tinkex_trainer *trainer = NULL;
    tinkex_tokenizer *tokenizer = NULL;
    tinkex_batch *batch = NULL;
    tinkex_sampler *sampler = NULL;
    tinkex_result *result = NULL;
    uint32_t tokens[64];
    float weights[64];
    const uint32_t *sampled = NULL;
    size_t prompt_length = 0, length = 0, sampled_length = 0, first_target, i;
    double loss = 0, first_loss = 0;
    char *text = NULL;
    int step;

    tinkex_set_log(2, NULL, NULL, &error);
    check(error);
    tinkex_service_connect(NULL, &service, &error);
    check(error);
    tinkex_trainer_create(service, "tinkex/bytes-tiny", "{\"lora_config\": {\"rank\": 16, \"seed\": 1}}", &trainer, &error);
    check(error);

    /* The prompt's tokens have weight 0: only the completion is learned. */
    tinkex_trainer_tokenizer(trainer, &tokenizer, &error);
    check(error);
    tinkex_tokenizer_encode(tokenizer, PROMPT, tokens, 64, &prompt_length, &error);
    check(error);
    tinkex_tokenizer_encode(tokenizer, COMPLETION, tokens + prompt_length, 64 - prompt_length, &length, &error);
    check(error);
    length += prompt_length;
    for (i = 0; i < length; i++) {
        weights[i] = i < prompt_length ? 0.0f : 1.0f;
    }
    tinkex_batch_new(&batch, &error);
    check(error);
    tinkex_batch_add_text(batch, tokens, weights, length, &error);
    check(error);

    /* Each pass and its step are submitted together: the step does not wait for the result of the pass. */
    for (step = 0; step < 100; step++) {
        tinkex_pending *pass = NULL, *update = NULL;
        tinkex_trainer_submit_forward_backward(trainer, batch, "cross_entropy", NULL, &pass, &error);
        check(error);
        tinkex_trainer_submit_optim_step(trainer, "{\"learning_rate\": 0.005}", &update, &error);
        check(error);
        tinkex_pending_wait(pass, -1, &result, &error);
        check(error);
        tinkex_result_metric(result, "loss:sum", &loss, &error);
        check(error);
        tinkex_result_free(result);
        tinkex_pending_wait(update, -1, NULL, &error);
        check(error);
        tinkex_pending_free(pass);
        tinkex_pending_free(update);
        first_loss = step == 0 ? loss : first_loss;
    }
    printf("loss: %.3f -> %.3f nats\n", first_loss, loss);

    /* The first target is the second token. */
    first_target = prompt_length - 1;
    tinkex_trainer_forward_backward_custom(trainer, batch, mean_loss, &first_target, &result, &error);
    check(error);
    tinkex_result_metric(result, "loss:sum", &loss, &error);
    check(error);
    tinkex_result_free(result);
    tinkex_trainer_optim_step(trainer, "{\"learning_rate\": 0.001}", NULL, &error);
    check(error);
    printf("custom loss: %.3f nats/token\n", loss);

    tinkex_trainer_save_state(trainer, "from-c", "{\"overwrite\": true}", &result, &error);
    check(error);
    printf("saved %s\n", tinkex_result_path(result));
    tinkex_result_free(result);

    tinkex_trainer_get_sampler(trainer, &sampler, &error);
    check(error);
    tinkex_sampler_sample(sampler, tokens, prompt_length, "{\"sampling_params\": {\"max_tokens\": 9, \"temperature\": 0}}",
                          &result, &error);
    check(error);
    tinkex_result_tokens(result, 0, &sampled, &sampled_length, &error);
    check(error);
    tinkex_tokenizer_decode(tokenizer, sampled, sampled_length, &text, &error);
    check(error);
    printf("%s-> %s\n", PROMPT, text);

    tinkex_trainer_unload_model(trainer, NULL, &error);
    check(error);
    tinkex_service_close(service, 10000, &error);
    check(error);
    tinkex_string_free(text);
    tinkex_result_free(result);
    tinkex_sampler_free(sampler);
    tinkex_batch_free(batch);
    tinkex_tokenizer_free(tokenizer);
    tinkex_trainer_free(trainer);
    tinkex_service_free(service);
    return EXIT_SUCCESS;
}
