/* Calls every function of the header, and checks what each does with wrong arguments. Needs the local server: see capi/check. */
#define _POSIX_C_SOURCE 200809L

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tinkex.h>

#define CHECK(condition)                                                                                                   \
    do {                                                                                                                   \
        if (!(condition)) {                                                                                                \
            fprintf(stderr, "%s:%d: not so: %s; %s\n", __FILE__, __LINE__, #condition, tinkex_error_message(error));       \
            exit(EXIT_FAILURE);                                                                                            \
        }                                                                                                                  \
    } while (0)

/* The call succeeds, and leaves no error. */
#define OK(call) CHECK((call) == TINKEX_OK && error == NULL)

/* The call fails with this status, and an error whose message contains the text. */
#define FAILS(status, text, call)                                                                                          \
    do {                                                                                                                   \
        CHECK((call) == (status));                                                                                         \
        CHECK(error != NULL && tinkex_error_status(error) == (status));                                                    \
        CHECK(strstr(tinkex_error_message(error), (text)) != NULL);                                                        \
        tinkex_error_free(error);                                                                                          \
        error = NULL;                                                                                                      \
    } while (0)

#define INVALID(text, call) FAILS(TINKEX_INVALID_INPUT, text, call)

/* The call fails because of an argument, and the handle is NULL afterwards, whatever it was before. */
#define CLEARS(handle, text, call)                                                                                         \
    do {                                                                                                                   \
        (handle) = (void *)&error;                                                                                         \
        INVALID(text, call);                                                                                               \
        CHECK((handle) == NULL);                                                                                           \
    } while (0)

#define MODEL "tinkex/bytes-tiny"
#define LONG_SAMPLE "{\"num_samples\": 64, \"sampling_params\": {\"max_tokens\": 900, \"stop\": []}}"

/* Not UTF-8. */
static const char BAD[] = "bad \xff";
static const uint32_t TOKENS[] = {104, 101, 108, 108, 111};
static const float WEIGHTS[] = {0, 0, 1, 1, 1};
/* More than there is room for in the address space: what a negative count becomes. */
static const size_t HUGE_COUNT = (size_t)-1;

static tinkex_error *error;

static double metric(tinkex_result *result, const char *name) {
    double value = 0;
    OK(tinkex_result_metric(result, name, &value, &error));
    return value;
}

static void versions(void) {
    CHECK(tinkex_abi_version() == TINKEX_ABI_VERSION);
    CHECK(strcmp(tinkex_version(), "0.1.0") == 0);
    CHECK(strcmp(tinkex_status_name(TINKEX_OK), "ok") == 0);
    CHECK(strcmp(tinkex_status_name(TINKEX_NOT_READY), "not_ready") == 0);
    CHECK(strcmp(tinkex_status_name(TINKEX_OTHER), "other") == 0);
    CHECK(strcmp(tinkex_status_name(77), "unknown") == 0);
}

/* NULL is a handle that frees nothing and knows nothing. */
static void null_handles(void) {
    tinkex_error_free(NULL);
    tinkex_string_free(NULL);
    tinkex_service_free(NULL);
    tinkex_trainer_free(NULL);
    tinkex_sampler_free(NULL);
    tinkex_batch_free(NULL);
    tinkex_pending_free(NULL);
    tinkex_result_free(NULL);
    tinkex_tokenizer_free(NULL);
    CHECK(tinkex_error_status(NULL) == TINKEX_OK);
    CHECK(strcmp(tinkex_error_message(NULL), "no error") == 0);
    CHECK(tinkex_error_causes(NULL)[0] == 0);
    CHECK(tinkex_error_request_id(NULL) == NULL);
    CHECK(tinkex_error_http_status(NULL) == 0);
    CHECK(tinkex_error_retry_after_ms(NULL) == -1);
    CHECK(tinkex_error_is_retryable(NULL) == 0);
    CHECK(tinkex_error_may_have_taken_effect(NULL) == 0);
    CHECK(tinkex_service_session_id(NULL) == NULL);
    CHECK(tinkex_trainer_model_id(NULL) == NULL);
    CHECK(tinkex_batch_count(NULL) == 0);
    CHECK(tinkex_result_json(NULL) == NULL);
    CHECK(tinkex_result_path(NULL) == NULL);
    CHECK(tinkex_result_count(NULL) == 0);
    CHECK(tinkex_result_stop_reason(NULL, 0) == NULL);
    CHECK(tinkex_pending_is_ready(NULL) == 0);
    CHECK(tinkex_pending_request_id(NULL) == NULL);
    tinkex_pending_cancel(NULL);
    CHECK(tinkex_tokenizer_eos_token(NULL) == -1);
}

static void null_arguments(void) {
    tinkex_service *service = NULL;
    tinkex_trainer *trainer = NULL;
    tinkex_sampler *sampler = NULL;
    tinkex_tokenizer *tokenizer = NULL;
    tinkex_pending *pending = NULL;
    char *text = NULL;
    double value = 0;
    const float *logprobs = NULL;
    const uint32_t *tokens = NULL;
    float space[1];
    size_t count = 0;
    INVALID("service is NULL", tinkex_service_connect(NULL, NULL, &error));
    INVALID("service is NULL", tinkex_service_request(NULL, "GET", "/", NULL, &text, &error));
    INVALID("service is NULL", tinkex_service_close(NULL, 0, &error));
    INVALID("service is NULL", tinkex_trainer_create(NULL, MODEL, NULL, &trainer, &error));
    INVALID("service is NULL", tinkex_trainer_create_from_state(NULL, "tinker://a/weights/b", NULL, &trainer, &error));
    INVALID("trainer is NULL", tinkex_trainer_tokenizer(NULL, &tokenizer, &error));
    INVALID("trainer is NULL", tinkex_trainer_get_sampler(NULL, &sampler, &error));
    INVALID("trainer is NULL", tinkex_trainer_forward(NULL, NULL, "ppo", NULL, NULL, &error));
    INVALID("trainer is NULL", tinkex_trainer_submit_forward(NULL, NULL, "ppo", NULL, &pending, &error));
    INVALID("trainer is NULL", tinkex_trainer_forward_backward(NULL, NULL, "ppo", NULL, NULL, &error));
    INVALID("trainer is NULL", tinkex_trainer_submit_forward_backward(NULL, NULL, "ppo", NULL, &pending, &error));
    INVALID("trainer is NULL", tinkex_trainer_forward_backward_custom(NULL, NULL, NULL, NULL, NULL, &error));
    INVALID("trainer is NULL", tinkex_trainer_submit_forward_backward_custom(NULL, NULL, NULL, NULL, &pending, &error));
    INVALID("trainer is NULL", tinkex_trainer_optim_step(NULL, NULL, NULL, &error));
    INVALID("trainer is NULL", tinkex_trainer_submit_optim_step(NULL, NULL, &pending, &error));
    INVALID("trainer is NULL", tinkex_trainer_save_state(NULL, "a", NULL, NULL, &error));
    INVALID("trainer is NULL", tinkex_trainer_submit_save_state(NULL, "a", NULL, &pending, &error));
    INVALID("trainer is NULL", tinkex_trainer_save_weights_for_sampler(NULL, "a", NULL, NULL, &error));
    INVALID("trainer is NULL", tinkex_trainer_submit_save_weights_for_sampler(NULL, "a", NULL, &pending, &error));
    INVALID("trainer is NULL", tinkex_trainer_load_state(NULL, "a", NULL, NULL, &error));
    INVALID("trainer is NULL", tinkex_trainer_submit_load_state(NULL, "a", NULL, &pending, &error));
    INVALID("trainer is NULL", tinkex_trainer_unload_model(NULL, NULL, &error));
    INVALID("trainer is NULL", tinkex_trainer_submit_unload_model(NULL, &pending, &error));
    INVALID("service is NULL", tinkex_sampler_create(NULL, MODEL, &sampler, &error));
    INVALID("sampler is NULL", tinkex_sampler_tokenizer(NULL, &tokenizer, &error));
    INVALID("sampler is NULL", tinkex_sampler_sample(NULL, TOKENS, 1, NULL, NULL, &error));
    INVALID("sampler is NULL", tinkex_sampler_submit_sample(NULL, TOKENS, 1, NULL, &pending, &error));
    INVALID("sampler is NULL", tinkex_sampler_compute_logprobs(NULL, TOKENS, 1, space, NULL, &error));
    INVALID("batch is NULL", tinkex_batch_new(NULL, &error));
    INVALID("batch is NULL", tinkex_batch_add_text(NULL, TOKENS, NULL, 2, &error));
    INVALID("batch is NULL", tinkex_batch_add_tokens(NULL, TOKENS, 2, &error));
    INVALID("batch is NULL", tinkex_batch_set_floats(NULL, "weights", WEIGHTS, 2, &error));
    INVALID("batch is NULL", tinkex_batch_set_integers(NULL, "target_tokens", NULL, 0, &error));
    INVALID("batch is NULL", tinkex_batch_add_json(NULL, "{}", &error));
    INVALID("result is NULL", tinkex_result_metric(NULL, "loss:sum", &value, &error));
    INVALID("result is NULL", tinkex_result_logprobs(NULL, 0, &logprobs, &count, &error));
    INVALID("result is NULL", tinkex_result_tokens(NULL, 0, &tokens, &count, &error));
    INVALID("pending is NULL", tinkex_pending_wait(NULL, 0, NULL, &error));
    INVALID("service is NULL", tinkex_service_pending(NULL, "sample", "a", &pending, &error));
    INVALID("path is NULL", tinkex_tokenizer_from_path(NULL, &tokenizer, &error));
    INVALID("tokenizer is NULL", tinkex_tokenizer_encode(NULL, "a", NULL, 0, &count, &error));
    INVALID("tokenizer is NULL", tinkex_tokenizer_decode(NULL, TOKENS, 1, &text, &error));
    INVALID("call is NULL", tinkex_loss_metric(NULL, "a", 1, &error));
    INVALID("not aligned", tinkex_service_close((tinkex_service *)(void *)1, 0, &error));
    CHECK(tinkex_service_connect(NULL, NULL, NULL) == TINKEX_INVALID_INPUT);
    CHECK(service == NULL && trainer == NULL && sampler == NULL && tokenizer == NULL && pending == NULL && text == NULL);
}

struct log {
    pthread_mutex_t mutex;
    size_t lines;
};

static void write_line(void *context, int32_t level, const char *target, const char *message) {
    struct log *log = context;
    pthread_mutex_lock(&log->mutex);
    if (level < 1 || level > 5 || target[0] == 0 || message[0] == 0) {
        abort();
    }
    log->lines++;
    pthread_mutex_unlock(&log->mutex);
}

static void connecting(void) {
    tinkex_service *service = (tinkex_service *)&service;
    FAILS(TINKEX_INVALID_INPUT, "unknown field `base_uri`", tinkex_service_connect("{\"base_uri\": \"x\"}", &service, &error));
    CHECK(service == NULL);
    INVALID("config_json", tinkex_service_connect("{", &service, &error));
    INVALID("not UTF-8: no character begins at byte 4", tinkex_service_connect(BAD, &service, &error));
    FAILS(TINKEX_CONFIG, "timeout_idle is -1 seconds", tinkex_service_connect("{\"timeout_idle\": -1}", &service, &error));
    FAILS(TINKEX_CONFIG, "http", tinkex_service_connect("{\"base_url\": \"example.com\"}", &service, &error));
    /* No one listens there. */
    CHECK(tinkex_service_connect("{\"base_url\": \"http://127.0.0.1:1\", \"max_retries\": 0, \"timeout_submit\": 0.05}", &service,
                                 &error) == TINKEX_CONNECT);
    CHECK(tinkex_error_is_retryable(error) == 1 && tinkex_error_http_status(error) == 0 && tinkex_error_causes(error)[0] != 0);
    CHECK(tinkex_error_may_have_taken_effect(error) == 0 && tinkex_error_request_id(error) == NULL);
    tinkex_error_free(error);
    error = NULL;
}

static void raw_requests(tinkex_service *service) {
    char *text = NULL;
    OK(tinkex_service_request(service, "GET", "/api/v1/get_server_capabilities", NULL, &text, &error));
    CHECK(strstr(text, MODEL) != NULL);
    tinkex_string_free(text);
    INVALID("use GET, POST, PUT or DELETE", tinkex_service_request(service, "get", "/", NULL, &text, &error));
    CHECK(tinkex_service_request(service, "POST", "/api/v1/create_model", "{}", &text, &error) == TINKEX_STATUS);
    CHECK(tinkex_error_http_status(error) == 422 && tinkex_error_retry_after_ms(error) == -1 && text == NULL);
    CHECK(strcmp(tinkex_status_name(tinkex_error_status(error)), "status") == 0);
    tinkex_error_free(error);
    error = NULL;
}

static void tokenizers(tinkex_trainer *trainer) {
    tinkex_tokenizer *tokenizer = NULL;
    uint32_t tokens[8] = {0};
    size_t count = 0;
    char *text = NULL;
    OK(tinkex_trainer_tokenizer(trainer, &tokenizer, &error));
    INVALID("5 tokens, but there is space for 2", tinkex_tokenizer_encode(tokenizer, "hello", tokens, 2, &count, &error));
    CHECK(count == 5 && tokens[0] == 0);
    OK(tinkex_tokenizer_encode(tokenizer, "hello", tokens, 8, &count, &error));
    CHECK(count == 5 && memcmp(tokens, TOKENS, sizeof TOKENS) == 0);
    OK(tinkex_tokenizer_decode(tokenizer, tokens, 5, &text, &error));
    CHECK(strcmp(text, "hello") == 0);
    tinkex_string_free(text);
    OK(tinkex_tokenizer_decode(tokenizer, NULL, 0, &text, &error));
    CHECK(strcmp(text, "") == 0);
    tinkex_string_free(text);
    /* A zero byte would end the text. */
    OK(tinkex_tokenizer_decode(tokenizer, (const uint32_t[]){97, 0, 98}, 3, &text, &error));
    CHECK(strcmp(text, "a\xef\xbf\xbd"
                       "b") == 0);
    tinkex_string_free(text);
    INVALID("tokens cannot have", tinkex_tokenizer_decode(tokenizer, tokens, HUGE_COUNT, &text, &error));
    INVALID("not UTF-8", tinkex_tokenizer_encode(tokenizer, BAD, tokens, 8, &count, &error));
    CHECK(tinkex_tokenizer_eos_token(tokenizer) == 256);
    tinkex_tokenizer_free(tokenizer);
    FAILS(TINKEX_CONFIG, "feature tokenizers", tinkex_tokenizer_from_path("/tmp", &tokenizer, &error));
}

static tinkex_batch *batches(void) {
    tinkex_batch *batch = NULL;
    const int64_t targets[] = {101, 108, 108};
    const float weights[] = {0, 1, 1}, not_finite[] = {NAN};
    OK(tinkex_batch_new(&batch, &error));
    INVALID("no datum", tinkex_batch_set_floats(batch, "weights", weights, 3, &error));
    INVALID("at least two", tinkex_batch_add_text(batch, NULL, NULL, 0, &error));
    INVALID("at least two", tinkex_batch_add_text(batch, TOKENS, NULL, 1, &error));
    INVALID("tokens is NULL", tinkex_batch_add_text(batch, NULL, NULL, 5, &error));
    INVALID("tokens cannot have", tinkex_batch_add_text(batch, TOKENS, NULL, HUGE_COUNT, &error));
    INVALID("tokens are empty", tinkex_batch_add_tokens(batch, TOKENS, 0, &error));
    CHECK(tinkex_batch_count(batch) == 0);
    OK(tinkex_batch_add_text(batch, TOKENS, WEIGHTS, 5, &error));
    OK(tinkex_batch_add_text(batch, TOKENS, NULL, 5, &error));
    OK(tinkex_batch_add_tokens(batch, TOKENS, 3, &error));
    OK(tinkex_batch_set_integers(batch, "target_tokens", targets, 3, &error));
    OK(tinkex_batch_set_floats(batch, "weights", weights, 3, &error));
    INVALID("\"weights\"", tinkex_batch_set_floats(batch, "weights", not_finite, 1, &error));
    INVALID("name is not UTF-8", tinkex_batch_set_integers(batch, BAD, targets, 3, &error));
    OK(tinkex_batch_add_json(batch,
                             "{\"model_input\": {\"chunks\": [{\"type\": \"encoded_text\", \"tokens\": [1, 2]}]},"
                             " \"loss_fn_inputs\": {\"target_tokens\": {\"dtype\": \"int64\", \"data\": [2, 3], \"shape\": [2]},"
                             " \"weights\": {\"dtype\": \"float32\", \"data\": [1, 1], \"shape\": [2]}}}",
                             &error));
    INVALID("unknown", tinkex_batch_add_json(batch, "{\"model_input\": {\"chunks\": []}, \"loss_fn_input\": {}}", &error));
    INVALID("unknown key model_input.chunk",
            tinkex_batch_add_json(batch, "{\"model_input\": {\"chunks\": [], \"chunk\": 1}, \"loss_fn_inputs\": {}}", &error));
    CHECK(tinkex_batch_count(batch) == 4);
    return batch;
}

static int32_t squares(void *context, tinkex_loss_call *call) {
    size_t i, k;
    *(size_t *)context += call->count;
    call->loss = 0;
    for (i = 0; i < call->count; i++) {
        for (k = 0; k < call->lengths[i]; k++) {
            float logprob = call->logprobs[i][k];
            call->loss += logprob * logprob;
            call->gradients[i][k] = 2 * logprob;
        }
    }
    return tinkex_loss_metric(call, "squares", call->loss, NULL);
}

static int32_t fails(void *context, tinkex_loss_call *call) {
    (void)context;
    (void)call;
    return 7;
}

static int32_t forgets_the_loss(void *context, tinkex_loss_call *call) {
    (void)context;
    (void)call;
    return 0;
}

static int32_t gradient_is_not_a_number(void *context, tinkex_loss_call *call) {
    (void)context;
    call->loss = 1;
    call->gradients[1][2] = NAN;
    return 0;
}

struct nested {
    tinkex_trainer *trainer;
    tinkex_batch *batch;
    double loss;
};

/* A pass and a step of the same trainer come between the passes of the custom loss. What it does not need it may free. */
static int32_t calls_the_trainer(void *context, tinkex_loss_call *call) {
    struct nested *nested = context;
    tinkex_result *result = NULL;
    tinkex_pending *pending = NULL;
    OK(tinkex_trainer_forward(nested->trainer, nested->batch, "cross_entropy", NULL, &result, &error));
    nested->loss = metric(result, "loss:sum");
    tinkex_result_free(result);
    OK(tinkex_trainer_submit_optim_step(nested->trainer, "{\"type\": \"adamw\", \"learning_rate\": 0}", &pending, &error));
    OK(tinkex_pending_wait(pending, -1, NULL, &error));
    tinkex_pending_free(pending);
    tinkex_batch_free(nested->batch);
    call->loss = 0;
    return 0;
}

/* Whatever argument is wrong, no old handle is left that would be freed a second time. */
static void failures_leave_no_handle(tinkex_trainer *trainer, tinkex_sampler *sampler, tinkex_batch *batch) {
    tinkex_result *result = NULL;
    tinkex_pending *pending = NULL;
    CLEARS(result, "trainer is NULL", tinkex_trainer_forward(NULL, batch, "ppo", NULL, &result, &error));
    CLEARS(pending, "trainer is NULL", tinkex_trainer_submit_forward(NULL, batch, "ppo", NULL, &pending, &error));
    CLEARS(result, "batch is NULL", tinkex_trainer_forward_backward(trainer, NULL, "ppo", NULL, &result, &error));
    CLEARS(pending, "loss_config_json", tinkex_trainer_submit_forward_backward(trainer, batch, "ppo", "{", &pending, &error));
    CLEARS(result, "batch is NULL", tinkex_trainer_forward_backward_custom(trainer, NULL, squares, NULL, &result, &error));
    CLEARS(pending, "function is NULL", tinkex_trainer_submit_forward_backward_custom(trainer, batch, NULL, NULL, &pending, &error));
    CLEARS(result, "params_json", tinkex_trainer_optim_step(trainer, "", &result, &error));
    CLEARS(pending, "not UTF-8", tinkex_trainer_submit_optim_step(trainer, BAD, &pending, &error));
    CLEARS(result, "name is NULL", tinkex_trainer_save_state(trainer, NULL, NULL, &result, &error));
    CLEARS(pending, "name is not UTF-8", tinkex_trainer_submit_save_state(trainer, BAD, NULL, &pending, &error));
    CLEARS(result, "name is NULL", tinkex_trainer_save_weights_for_sampler(trainer, NULL, NULL, &result, &error));
    CLEARS(pending, "options_json", tinkex_trainer_submit_save_weights_for_sampler(trainer, "a", "[]", &pending, &error));
    CLEARS(result, "path is NULL", tinkex_trainer_load_state(trainer, NULL, NULL, &result, &error));
    CLEARS(pending, "path is NULL", tinkex_trainer_submit_load_state(trainer, NULL, NULL, &pending, &error));
    CLEARS(result, "trainer is NULL", tinkex_trainer_unload_model(NULL, &result, &error));
    CLEARS(pending, "trainer is NULL", tinkex_trainer_submit_unload_model(NULL, &pending, &error));
    CLEARS(result, "options_json", tinkex_sampler_sample(sampler, TOKENS, 1, "{", &result, &error));
    CLEARS(pending, "prompt is NULL", tinkex_sampler_submit_sample(sampler, NULL, 1, NULL, &pending, &error));
    CLEARS(result, "pending is NULL", tinkex_pending_wait(NULL, 0, &result, &error));
}

/* A model whose weights are no numbers says so: NaN is a value, in arrays, metrics and marks, and null in JSON. */
static void diverged(tinkex_service *service) {
    tinkex_trainer *trainer = NULL;
    tinkex_sampler *sampler = NULL;
    tinkex_batch *batch = NULL;
    tinkex_result *result = NULL;
    const float *logprobs = NULL;
    float values[5];
    uint8_t marks[5];
    size_t count = 0;
    OK(tinkex_trainer_create(service, MODEL, NULL, &trainer, &error));
    OK(tinkex_batch_new(&batch, &error));
    OK(tinkex_batch_add_text(batch, TOKENS, NULL, 5, &error));
    OK(tinkex_trainer_forward_backward(trainer, batch, "cross_entropy", NULL, NULL, &error));
    OK(tinkex_trainer_optim_step(trainer, "{\"learning_rate\": 3e38}", NULL, &error));
    OK(tinkex_trainer_forward(trainer, batch, "cross_entropy", NULL, &result, &error));
    CHECK(isnan(metric(result, "loss:sum")));
    OK(tinkex_result_logprobs(result, 0, &logprobs, &count, &error));
    CHECK(count == 4 && isnan(logprobs[3]));
    CHECK(strstr(tinkex_result_json(result), "\"loss:sum\":null") != NULL);
    tinkex_result_free(result);
    OK(tinkex_trainer_get_sampler(trainer, &sampler, &error));
    OK(tinkex_sampler_compute_logprobs(sampler, TOKENS, 5, values, marks, &error));
    CHECK(marks[0] == 0 && marks[1] == 1 && isnan(values[1]));
    OK(tinkex_trainer_unload_model(trainer, NULL, &error));
    tinkex_sampler_free(sampler);
    tinkex_batch_free(batch);
    tinkex_trainer_free(trainer);
}

static void passes(tinkex_trainer *trainer, tinkex_batch *batch) {
    struct nested nested = {trainer, NULL, 0};
    tinkex_result *result = NULL;
    tinkex_pending *pending = NULL;
    const float *logprobs = NULL;
    const uint32_t *tokens = NULL;
    size_t count = 0, examples = 0;
    double loss;
    OK(tinkex_trainer_forward(trainer, batch, "cross_entropy", NULL, &result, &error));
    loss = metric(result, "loss:sum");
    CHECK(loss > 0 && tinkex_result_count(result) == 4);
    OK(tinkex_result_logprobs(result, 2, &logprobs, &count, &error));
    CHECK(count == 3 && logprobs[0] < 0);
    INVALID("index is 4, but the result has 4", tinkex_result_logprobs(result, 4, &logprobs, &count, &error));
    INVALID("not one of samples", tinkex_result_tokens(result, 0, &tokens, &count, &error));
    INVALID("no metric \"loss\"; it has", tinkex_result_metric(result, "loss", &loss, &error));
    INVALID("value is NULL", tinkex_result_metric(result, "loss:sum", NULL, &error));
    CHECK(tinkex_result_path(result) == NULL && tinkex_result_stop_reason(result, 0) == NULL);
    CHECK(strstr(tinkex_result_json(result), "loss:sum") != NULL);
    tinkex_result_free(result);

    OK(tinkex_trainer_submit_forward(trainer, batch, "cross_entropy", NULL, &pending, &error));
    OK(tinkex_pending_wait(pending, 60000, &result, &error));
    CHECK(metric(result, "loss:sum") == loss);
    tinkex_result_free(result);
    CHECK(tinkex_pending_is_ready(pending) == 1);
    INVALID("already been taken; keep the result of the first tinkex_pending_wait", tinkex_pending_wait(pending, -1, &result, &error));
    CHECK(result == NULL);
    INVALID("timeout_ms is -2", tinkex_pending_wait(pending, -2, &result, &error));
    tinkex_pending_free(pending);

    OK(tinkex_trainer_forward_backward(trainer, batch, "cross_entropy", NULL, NULL, &error));
    OK(tinkex_trainer_optim_step(trainer, NULL, &result, &error));
    INVALID("have logprobs", tinkex_result_logprobs(result, 0, &logprobs, &count, &error));
    tinkex_result_free(result);
    OK(tinkex_trainer_submit_forward_backward(trainer, batch, "cross_entropy", "{}", &pending, &error));
    OK(tinkex_pending_wait(pending, -1, NULL, &error));
    tinkex_pending_free(pending);
    OK(tinkex_trainer_submit_optim_step(trainer, "{\"learning_rate\": 0.001, \"weight_decay\": 0.01}", &pending, &error));
    OK(tinkex_pending_wait(pending, -1, NULL, &error));
    tinkex_pending_free(pending);
    INVALID("params_json: invalid type: sequence, expected an object", tinkex_trainer_optim_step(trainer, "[1]", NULL, &error));
    INVALID("type is \"adam\"; use \"adamw\"", tinkex_trainer_optim_step(trainer, "{\"type\": \"adam\"}", NULL, &error));
    INVALID("unknown key lr", tinkex_trainer_optim_step(trainer, "{\"type\": \"adamw\", \"lr\": 1}", NULL, &error));
    INVALID("unknown key lr", tinkex_trainer_optim_step(trainer, "{\"lr\": 1}", NULL, &error));
    INVALID("beta1", tinkex_trainer_optim_step(trainer, "{\"beta1\": 1.5}", NULL, &error));
    FAILS(TINKEX_STATUS, "", tinkex_trainer_optim_step(trainer, "{\"type\": \"dimuon\", \"learning_rate\": 1}", NULL, &error));
    INVALID("learning_rate", tinkex_trainer_optim_step(trainer, "{\"type\": \"dimuon\"}", NULL, &error));
    INVALID("loss_config_json", tinkex_trainer_forward(trainer, batch, "ppo", "[]", NULL, &error));
    INVALID("loss is NULL", tinkex_trainer_forward(trainer, batch, NULL, NULL, NULL, &error));
    INVALID("batch is NULL", tinkex_trainer_forward(trainer, NULL, "ppo", NULL, NULL, &error));
    INVALID("pending is NULL", tinkex_trainer_submit_optim_step(trainer, NULL, NULL, &error));

    OK(tinkex_trainer_forward_backward_custom(trainer, batch, squares, &examples, &result, &error));
    CHECK(examples == 4 && metric(result, "squares") == metric(result, "loss:sum"));
    tinkex_result_free(result);
    OK(tinkex_trainer_submit_forward_backward_custom(trainer, batch, squares, &examples, &pending, &error));
    CHECK(examples == 8);
    OK(tinkex_pending_wait(pending, -1, &result, &error));
    CHECK(metric(result, "squares") > 0);
    tinkex_result_free(result);
    tinkex_pending_free(pending);
    CHECK(tinkex_trainer_forward_backward_custom(trainer, batch, fails, NULL, &result, &error) == TINKEX_CALLBACK);
    CHECK(strcmp(tinkex_error_causes(error), "it returned 7") == 0 && result == NULL);
    tinkex_error_free(error);
    INVALID("the loss is NaN", tinkex_trainer_forward_backward_custom(trainer, batch, forgets_the_loss, NULL, NULL, &error));
    INVALID("function is NULL", tinkex_trainer_forward_backward_custom(trainer, batch, NULL, NULL, NULL, &error));
    INVALID("the gradient of datum 1 is NaN at 2",
            tinkex_trainer_forward_backward_custom(trainer, batch, gradient_is_not_a_number, NULL, NULL, &error));
    OK(tinkex_batch_new(&nested.batch, &error));
    OK(tinkex_batch_add_text(nested.batch, TOKENS, NULL, 5, &error));
    OK(tinkex_trainer_forward_backward_custom(trainer, nested.batch, calls_the_trainer, &nested, NULL, &error));
    CHECK(nested.loss > 0);
}

static void saves(tinkex_service *service, tinkex_trainer *trainer) {
    tinkex_result *result = NULL;
    tinkex_pending *pending = NULL;
    tinkex_trainer *resumed = NULL;
    tinkex_sampler *sampler = NULL;
    double value;
    OK(tinkex_trainer_save_state(trainer, "state", "{\"overwrite\": true, \"user_metadata\": {\"a\": \"b\"}}", &result, &error));
    CHECK(strncmp(tinkex_result_path(result), "tinker://", 9) == 0 && tinkex_result_count(result) == 0);
    INVALID("no metrics", tinkex_result_metric(result, "loss:sum", &value, &error));
    OK(tinkex_trainer_load_state(trainer, tinkex_result_path(result), "{\"with_optimizer\": true}", NULL, &error));
    OK(tinkex_trainer_submit_load_state(trainer, tinkex_result_path(result), NULL, &pending, &error));
    OK(tinkex_pending_wait(pending, -1, NULL, &error));
    tinkex_pending_free(pending);
    OK(tinkex_trainer_create_from_state(service, tinkex_result_path(result),
                                        "{\"with_optimizer\": true, \"user_metadata\": {\"resumed\": \"yes\"}}", &resumed, &error));
    CHECK(strcmp(tinkex_trainer_model_id(resumed), tinkex_trainer_model_id(trainer)) != 0);
    OK(tinkex_trainer_submit_unload_model(resumed, &pending, &error));
    OK(tinkex_pending_wait(pending, -1, NULL, &error));
    tinkex_pending_free(pending);
    tinkex_trainer_free(resumed);
    tinkex_result_free(result);
    INVALID("unknown field `optimizer`", tinkex_trainer_load_state(trainer, "tinker://a/weights/b", "{\"optimizer\": true}", NULL, &error));
    INVALID("nonsense", tinkex_trainer_create_from_state(service, "nonsense", NULL, &resumed, &error));
    INVALID("unknown field `ttl`", tinkex_trainer_save_state(trainer, "x", "{\"ttl\": 5}", NULL, &error));

    OK(tinkex_trainer_submit_save_state(trainer, "other", NULL, &pending, &error));
    OK(tinkex_pending_wait(pending, -1, &result, &error));
    CHECK(strstr(tinkex_result_path(result), "other") != NULL);
    tinkex_result_free(result);
    tinkex_pending_free(pending);

    OK(tinkex_trainer_save_weights_for_sampler(trainer, "weights", "{\"ttl_seconds\": 7200}", &result, &error));
    OK(tinkex_sampler_create(service, tinkex_result_path(result), &sampler, &error));
    tinkex_sampler_free(sampler);
    tinkex_result_free(result);
    OK(tinkex_trainer_submit_save_weights_for_sampler(trainer, "more", NULL, &pending, &error));
    OK(tinkex_pending_wait(pending, -1, NULL, &error));
    tinkex_pending_free(pending);
}

static void *wait_for_ever(void *pending) {
    tinkex_error *own = NULL;
    intptr_t status = tinkex_pending_wait(pending, -1, NULL, &own);
    tinkex_error_free(own);
    return (void *)status;
}

/* The id of a request is known while the result is not ready. */
static char *id_while_running(tinkex_pending *pending) {
    char *id;
    while ((id = tinkex_pending_request_id(pending)) == NULL) {
        CHECK(tinkex_pending_wait(pending, 1, NULL, &error) == TINKEX_NOT_READY);
    }
    return id;
}

static void sampling(tinkex_trainer *trainer, tinkex_batch *batch) {
    tinkex_sampler *sampler = NULL;
    tinkex_tokenizer *tokenizer = NULL;
    tinkex_result *result = NULL;
    tinkex_pending *pending = NULL;
    const uint32_t *tokens = NULL;
    const float *logprobs = NULL;
    float values[5];
    uint8_t marks[5];
    size_t count = 0;
    pthread_t thread;
    void *status;
    OK(tinkex_trainer_get_sampler(trainer, &sampler, &error));
    OK(tinkex_sampler_tokenizer(sampler, &tokenizer, &error));
    tinkex_tokenizer_free(tokenizer);
    failures_leave_no_handle(trainer, sampler, batch);
    OK(tinkex_sampler_sample(sampler, TOKENS, 5, "{\"num_samples\": 2, \"sampling_params\": {\"max_tokens\": 4, \"seed\": 1, \"stop\": []}}",
                             &result, &error));
    CHECK(tinkex_result_count(result) == 2 && strcmp(tinkex_result_stop_reason(result, 1), "length") == 0);
    OK(tinkex_result_tokens(result, 1, &tokens, &count, &error));
    CHECK(count == 4);
    OK(tinkex_result_logprobs(result, 1, &logprobs, &count, &error));
    CHECK(count == 4 && logprobs[0] <= 0);
    INVALID("index is 2", tinkex_result_tokens(result, 2, &tokens, &count, &error));
    INVALID("tokens is NULL", tinkex_result_tokens(result, 0, NULL, &count, &error));
    tinkex_result_free(result);
    OK(tinkex_sampler_sample(sampler, NULL, 0,
                             "{\"prompt\": {\"chunks\": [{\"type\": \"encoded_text\", \"tokens\": [104]}]}, \"prompt_logprobs\": true,"
                             " \"sampling_params\": {\"max_tokens\": 1}}",
                             &result, &error));
    CHECK(strstr(tinkex_result_json(result), "\"prompt_logprobs\":[null") != NULL);
    tinkex_result_free(result);
    INVALID("prompt is empty", tinkex_sampler_sample(sampler, NULL, 0, NULL, NULL, &error));
    INVALID("give one", tinkex_sampler_sample(sampler, TOKENS, 1, "{\"prompt\": {\"chunks\": []}}", NULL, &error));
    INVALID("unknown key sampling_params.max_token",
            tinkex_sampler_sample(sampler, TOKENS, 1, "{\"sampling_params\": {\"max_token\": 1}}", NULL, &error));
    INVALID("prompt is NULL", tinkex_sampler_submit_sample(sampler, NULL, 1, NULL, &pending, &error));
    INVALID("options_json: invalid type: sequence, expected an object",
            tinkex_sampler_sample(sampler, TOKENS, 1, "{\"sampling_params\": [4]}", NULL, &error));
    /* As long as a wait can be asked for. */
    OK(tinkex_sampler_submit_sample(sampler, TOKENS, 1, "{\"sampling_params\": {\"max_tokens\": 1}}", &pending, &error));
    OK(tinkex_pending_wait(pending, INT64_MAX, NULL, &error));
    tinkex_pending_free(pending);

    OK(tinkex_sampler_compute_logprobs(sampler, TOKENS, 5, values, marks, &error));
    CHECK(marks[0] == 0 && isnan(values[0]) && marks[1] == 1 && values[4] <= 0);
    OK(tinkex_sampler_compute_logprobs(sampler, TOKENS, 5, values, NULL, &error));
    INVALID("logprobs is NULL", tinkex_sampler_compute_logprobs(sampler, TOKENS, 5, NULL, NULL, &error));

    OK(tinkex_sampler_submit_sample(sampler, TOKENS, 5, LONG_SAMPLE, &pending, &error));
    CHECK(tinkex_pending_wait(pending, 0, &result, &error) == TINKEX_NOT_READY && error == NULL && result == NULL);
    CHECK(tinkex_pending_is_ready(pending) == 0);
    tinkex_string_free(id_while_running(pending));
    CHECK(pthread_create(&thread, NULL, wait_for_ever, pending) == 0);
    tinkex_pending_cancel(pending);
    CHECK(pthread_join(thread, &status) == 0 && (intptr_t)status == TINKEX_CANCELLED);
    FAILS(TINKEX_CANCELLED, "cancelled", tinkex_pending_wait(pending, -1, NULL, &error));
    tinkex_pending_free(pending);
    tinkex_sampler_free(sampler);
}

/* A result is there again by the id of its request, also the error of one that failed. */
static void results_by_id(tinkex_service *service, tinkex_trainer *trainer) {
    tinkex_sampler *sampler = NULL;
    tinkex_result *result = NULL, *again = NULL;
    tinkex_pending *pending = NULL;
    const uint32_t *tokens = NULL, *tokens_again = NULL;
    size_t count = 0, count_again = 0;
    char *id;
    OK(tinkex_sampler_create(service, MODEL, &sampler, &error));
    OK(tinkex_sampler_submit_sample(sampler, TOKENS, 5, "{\"sampling_params\": {\"max_tokens\": 300, \"stop\": []}}", &pending, &error));
    id = id_while_running(pending);
    OK(tinkex_pending_wait(pending, -1, &result, &error));
    tinkex_pending_free(pending);
    OK(tinkex_service_pending(service, "sample", id, &pending, &error));
    OK(tinkex_pending_wait(pending, -1, &again, &error));
    OK(tinkex_result_tokens(result, 0, &tokens, &count, &error));
    OK(tinkex_result_tokens(again, 0, &tokens_again, &count_again, &error));
    CHECK(count == 300 && count_again == count && memcmp(tokens, tokens_again, count * sizeof *tokens) == 0);
    tinkex_result_free(result);
    tinkex_result_free(again);
    tinkex_pending_free(pending);
    tinkex_string_free(id);
    tinkex_sampler_free(sampler);
    CHECK(tinkex_trainer_load_state(trainer, "tinker://a/weights/b", NULL, NULL, &error) == TINKEX_REQUEST_FAILED);
    CHECK(tinkex_service_pending(service, "load_state", tinkex_error_request_id(error), &pending, NULL) == TINKEX_OK);
    tinkex_error_free(error);
    error = NULL;
    FAILS(TINKEX_REQUEST_FAILED, "there is no checkpoint", tinkex_pending_wait(pending, -1, NULL, &error));
    tinkex_pending_free(pending);
    CLEARS(pending, "kind is \"train\"", tinkex_service_pending(service, "train", "a", &pending, &error));
    CLEARS(pending, "request_id is NULL", tinkex_service_pending(service, "sample", NULL, &pending, &error));
}

/* In a fork, a call fails at once, and nothing that the child frees disturbs the parent. */
static void forking(tinkex_service *service) {
    tinkex_sampler *sampler = NULL;
    tinkex_status status = TINKEX_OK;
    int ends[2], exit_status;
    pid_t child;
    OK(tinkex_sampler_create(service, MODEL, &sampler, &error));
    CHECK(pipe(ends) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        status = tinkex_sampler_sample(sampler, TOKENS, 5, NULL, NULL, &error);
        status = strstr(tinkex_error_message(error), "fork") == NULL ? TINKEX_OTHER : status;
        tinkex_sampler_free(sampler);
        tinkex_service_free(service);
        if (write(ends[1], &status, sizeof status) != sizeof status) {
            abort();
        }
        /* No exit: what the parent's threads hold would count as lost. */
        kill(getpid(), SIGKILL);
    }
    CHECK(read(ends[0], &status, sizeof status) == sizeof status && status == TINKEX_CLOSED);
    CHECK(waitpid(child, &exit_status, 0) == child);
    close(ends[0]);
    close(ends[1]);
    OK(tinkex_sampler_sample(sampler, TOKENS, 5, "{\"sampling_params\": {\"max_tokens\": 1}}", NULL, &error));
    tinkex_sampler_free(sampler);
}

/* A closed session ends the waits of other threads, and a handle may outlive it. */
static void closing(tinkex_service *service) {
    tinkex_sampler *sampler = NULL;
    tinkex_pending *pending = NULL;
    pthread_t thread;
    void *status;
    OK(tinkex_sampler_create(service, MODEL, &sampler, &error));
    OK(tinkex_sampler_submit_sample(sampler, TOKENS, 5, LONG_SAMPLE, &pending, &error));
    CHECK(pthread_create(&thread, NULL, wait_for_ever, pending) == 0);
    INVALID("timeout_ms is -1", tinkex_service_close(service, -1, &error));
    OK(tinkex_service_close(service, 10000, &error));
    CHECK(pthread_join(thread, &status) == 0 && (intptr_t)status == TINKEX_CLOSED);
    OK(tinkex_service_close(service, 0, &error));
    FAILS(TINKEX_CLOSED, "closed", tinkex_sampler_sample(sampler, TOKENS, 5, NULL, NULL, &error));
    tinkex_service_free(service);
    tinkex_pending_free(pending);
    tinkex_sampler_free(sampler);
}

/* A queue of one call is full with two. */
static void full_queue(void) {
    tinkex_service *service = NULL;
    tinkex_trainer *trainer = NULL;
    tinkex_pending *pendings[100] = {NULL};
    tinkex_status status = TINKEX_OK;
    size_t i, made;
    OK(tinkex_service_connect("{\"max_queued\": 1, \"constrained\": true}", &service, &error));
    OK(tinkex_trainer_create(service, MODEL, NULL, &trainer, &error));
    for (made = 0; made < 100 && status == TINKEX_OK; made++) {
        status = tinkex_trainer_submit_optim_step(trainer, NULL, &pendings[made], &error);
    }
    CHECK(status == TINKEX_QUEUE_FULL && tinkex_error_is_retryable(error) == 1);
    tinkex_error_free(error);
    error = NULL;
    for (i = 0; i + 1 < made; i++) {
        OK(tinkex_pending_wait(pendings[i], -1, NULL, &error));
        tinkex_pending_free(pendings[i]);
    }
    OK(tinkex_trainer_unload_model(trainer, NULL, &error));
    tinkex_trainer_free(trainer);
    tinkex_service_free(service);
}

int main(void) {
    static struct log log = {PTHREAD_MUTEX_INITIALIZER, 0};
    tinkex_service *service = NULL;
    tinkex_trainer *trainer = NULL;
    tinkex_batch *batch = NULL;
    versions();
    null_handles();
    null_arguments();
    INVALID("level is 6", tinkex_set_log(6, NULL, NULL, &error));
    OK(tinkex_set_log(5, write_line, &log, &error));
    connecting();
    OK(tinkex_service_connect("{\"timeout_connect\": 20, \"tags\": [\"c\"], \"user_metadata\": {\"language\": \"C\"}}", &service, &error));
    CHECK(tinkex_service_session_id(service)[0] != 0);
    raw_requests(service);
    FAILS(TINKEX_STATUS, "no-such-model", tinkex_trainer_create(service, "no-such-model", NULL, &trainer, &error));
    INVALID("unknown key lora_config.rnak", tinkex_trainer_create(service, MODEL, "{\"lora_config\": {\"rnak\": 1}}", &trainer, &error));
    INVALID("unknown key optimizer_config.lr",
            tinkex_trainer_create(service, MODEL, "{\"optimizer_config\": {\"type\": \"adamw\", \"lr\": 1}}", &trainer, &error));
    INVALID("base_model is not UTF-8", tinkex_trainer_create(service, BAD, NULL, &trainer, &error));
    OK(tinkex_trainer_create(service, MODEL, "{\"lora_config\": {\"rank\": 4, \"seed\": 1}, \"optimizer_config\": {\"type\": \"adamw\"}}",
                             &trainer, &error));
    tokenizers(trainer);
    batch = batches();
    passes(trainer, batch);
    saves(service, trainer);
    sampling(trainer, batch);
    tinkex_batch_free(batch);
    diverged(service);
    results_by_id(service, trainer);
    OK(tinkex_trainer_unload_model(trainer, NULL, &error));
    tinkex_trainer_free(trainer);
    forking(service);
    closing(service);
    full_queue();
    OK(tinkex_set_log(0, NULL, NULL, &error));
    CHECK(log.lines > 10);
    puts("every function works");
    return EXIT_SUCCESS;
}
