/*
 * tinkex.h - the C interface of tinkex, a blocking client for the Tinker API: fine-tune language models with LoRA on a remote
 * service, and sample from them. For C99 and C++. Unofficial.
 *
 * HANDLES. tinkex_service, tinkex_trainer, tinkex_sampler, tinkex_batch, tinkex_pending, tinkex_result, tinkex_tokenizer and
 * tinkex_error are opaque. A function that makes one gives it through its last parameter but one, and the caller owns it: it must
 * be freed once, with the function tinkex_..._free of its type, which does nothing for NULL. Handles may be freed in any order:
 * each keeps alive what it needs. A handle must not be used during or after its free.
 *
 * THREADS. Every function may be called from any thread, and every handle used by several threads at the same time, unless its
 * text says otherwise. Only the free of a handle must not overlap with another use of it. The library has threads of its own; they
 * end with tinkex_service_close, or when the last handle of a session is freed. In a fork, calls with the parent's handles fail with
 * TINKEX_CLOSED: connect anew.
 *
 * BLOCKING. A function blocks for requests only if its text says so.
 *
 * TEXTS are UTF-8 and end with a zero byte. The library copies what it keeps: an argument need not outlive the call. A result of
 * type `const char *` belongs to the handle that it was read from, and lives until that is freed. A result of type `char *` belongs
 * to the caller, who frees it with tinkex_string_free.
 *
 * JSON is used where options grow: arguments named ..._json. NULL stands for all defaults. An unknown key, or a value of another
 * type, is an error. The keys are those of the Tinker API.
 *
 * ERRORS. A function that can fail returns a tinkex_status: TINKEX_OK, or what kind of error it is. Its last parameter may be NULL;
 * otherwise it is set to NULL on success, and to a new tinkex_error on failure, which the caller frees. After a failure the handles
 * and texts that the function would have made are NULL, and all other results are unchanged, unless its text says otherwise. NULL for a required pointer, a pointer
 * that is not aligned, text that is not UTF-8 and impossible lengths are errors of kind TINKEX_INVALID_INPUT, and nothing is sent. A
 * panic of the library is an error of kind TINKEX_PANICKED.
 *
 * VERSIONS. TINKEX_ABI_VERSION rises when a program must be compiled anew. New functions and new JSON keys do not raise it.
 */
#ifndef TINKEX_H
#define TINKEX_H

#include <stddef.h>
#include <stdint.h>

#define TINKEX_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Versions ---------------------------------------------------------------------------------------------------------------- */

/* TINKEX_ABI_VERSION of the library that is loaded. Compare it with that of the header if the library may be another one. */
uint32_t tinkex_abi_version(void);

/* The version of the library, such as "0.1.0". Lives as long as the process. */
const char *tinkex_version(void);

/* ---- Errors ------------------------------------------------------------------------------------------------------------------ */

typedef int32_t tinkex_status;

enum {
    TINKEX_NOT_READY = -1,     /* no error: the wait is over, the result is not there yet */
    TINKEX_OK = 0,
    TINKEX_CONFIG = 1,         /* a setting is missing or invalid; nothing was sent */
    TINKEX_INVALID_INPUT = 2,  /* an argument is invalid; nothing was sent */
    TINKEX_CONNECT = 3,        /* connecting failed, or the connection was lost */
    TINKEX_TIMEOUT = 4,        /* a timeout expired; the message says which */
    TINKEX_STATUS = 5,         /* the service responded with an HTTP error: tinkex_error_http_status */
    TINKEX_BILLING = 6,        /* the service refused because of the account's billing */
    TINKEX_REQUEST_FAILED = 7, /* the service accepted the request, which then failed */
    TINKEX_EXPIRED = 8,        /* the service no longer knows the request; its outcome is unknown */
    TINKEX_DECODE = 9,         /* the response does not follow the protocol */
    TINKEX_CLOSED = 10,        /* the session is closed */
    TINKEX_CALLBACK = 11,      /* the loss function returned an error */
    TINKEX_PANICKED = 12,      /* the library or a callback panicked */
    TINKEX_QUEUE_FULL = 13,    /* a bounded queue is full: wait for earlier results first */
    TINKEX_CANCELLED = 14,     /* the call was cancelled */
    TINKEX_IO = 15,            /* a file, thread or socket could not be used */
    TINKEX_OTHER = 16          /* a kind that is younger than this interface */
};

typedef struct tinkex_error tinkex_error;

/* The name of a status, such as "invalid_input"; "unknown" for a number that is none. Lives as long as the process. */
const char *tinkex_status_name(tinkex_status status);

/* The kind of an error; TINKEX_OK for NULL. */
tinkex_status tinkex_error_status(const tinkex_error *error);

/* What failed, why, and what to do about it, on one line. "no error" for NULL. */
const char *tinkex_error_message(const tinkex_error *error);

/* What is behind the error, from the outermost cause to the innermost, separated by ": ". Empty if nothing is. */
const char *tinkex_error_causes(const tinkex_error *error);

/* The id of the request that failed, for support; NULL if there is none. */
const char *tinkex_error_request_id(const tinkex_error *error);

/* The HTTP status of the response; 0 if there was none. */
int32_t tinkex_error_http_status(const tinkex_error *error);

/* How long the service asks to wait before the next try, in milliseconds; -1 if it does not say. */
int64_t tinkex_error_retry_after_ms(const tinkex_error *error);

/* 1 if the same call may succeed later, else 0. The library has already retried by itself. */
int32_t tinkex_error_is_retryable(const tinkex_error *error);

/* 1 if the request may have been executed although the call failed: calling again may then execute it twice. Else 0. */
int32_t tinkex_error_may_have_taken_effect(const tinkex_error *error);

void tinkex_error_free(tinkex_error *error);

/* ---- Texts ------------------------------------------------------------------------------------------------------------------- */

/* Frees a text of type `char *` that a function gave. Does nothing for NULL. */
void tinkex_string_free(char *text);

/* ---- The log ----------------------------------------------------------------------------------------------------------------- */

/*
 * Receives a line of the log: its level (1 error, 2 warning, 3 info, 4 debug, 5 trace), the part of the library it comes from, and
 * the line. The texts live until it returns. It may be called from any thread, several at the same time. It must not let a C++
 * exception out, should not block, and may call no function of the library but tinkex_set_log: others could wait for its own caller.
 */
typedef void (*tinkex_log_function)(void *context, int32_t level, const char *target, const char *message);

/*
 * Sets where the log goes, for the whole process, and how much of it: 0 nothing, up to 5. Without this call there is no log: set at
 * least level 2, since a call that waits for the service (for a connection, a free GPU, a paused queue) says so in a warning.
 * A function that is NULL writes lines to stderr. A later call replaces the earlier one; a line that is being written may still go to
 * the earlier function, so that function and context must live as long as the process.
 */
tinkex_status tinkex_set_log(int32_t level, tinkex_log_function function, void *context, tinkex_error **error);

/* ---- The service ------------------------------------------------------------------------------------------------------------- */

typedef struct tinkex_service tinkex_service;

/*
 * Opens a session with the service. Blocks for one request and its retries.
 *
 * Keys of config_json, all optional; what is not given is taken from the environment (TINKER_API_KEY, TINKER_BASE_URL,
 * TINKER_TAGS ...), then from the defaults of the library's documentation (ConfigBuilder):
 *
 *   base_url, api_key, project_id, display_name, wire ("auto", "json", "protobuf")      texts
 *   proxy                     "environment", "off", or the URL of a proxy
 *   root_certificate          the content of a PEM file, trusted in place of the built-in authorities
 *   add_root_certificate      the content of a PEM file, trusted beside the built-in authorities
 *   cloudflare_access         {"id": text, "secret": text}
 *   tags                      list of texts
 *   user_metadata, headers, query                                                       objects of texts
 *   telemetry                 true or false
 *   constrained               true for a device with little memory: Config::constrained; other keys override it
 *   timeout_connect, timeout_idle, timeout_submit, timeout_poll, timeout_progress, timeout_operation, timeout_billing,
 *   timeout_drop, heartbeat_interval, retry_base, retry_cap, idle_retention, dns_retention     seconds, such as 2.5
 *   max_retries, max_poll_connections, max_sampling_threads, max_sampling_in_flight, sampling_burst, sampling_rate, max_queued,
 *   max_queued_bytes, max_response_bytes, max_idle_connections, connection_buffer, thread_stack_size       whole numbers
 */
tinkex_status tinkex_service_connect(const char *config_json, tinkex_service **service, tinkex_error **error);

/* The id of the session; NULL for NULL. */
const char *tinkex_service_session_id(const tinkex_service *service);

/*
 * Sends any request of the service's API, such as GET "/api/v1/get_server_capabilities" for the models that it offers, and gives the
 * body of the response. The method is GET, POST, PUT or DELETE; the path is the one below the base URL; body_json may be NULL.
 * Blocks for one request and its retries.
 */
tinkex_status tinkex_service_request(tinkex_service *service, const char *method, const char *path,
                                     const char *body_json, char **response, tinkex_error **error);

/*
 * Ends the session, with every request in flight and every thread. Calls and waits that are blocked, in any thread and of any handle
 * of the session, fail with TINKEX_CLOSED, and so do all later ones. Blocks up to timeout_ms milliseconds (at least 0), until the
 * threads have ended. A second call does nothing. The handles still have to be freed.
 */
tinkex_status tinkex_service_close(tinkex_service *service, int64_t timeout_ms, tinkex_error **error);

/*
 * Frees the handle. If it is the last of the session (trainers, samplers and pendings count), ends the session as
 * tinkex_service_close does, within half a second (timeout_drop).
 */
void tinkex_service_free(tinkex_service *service);

/* ---- Batches ----------------------------------------------------------------------------------------------------------------- */

/*
 * The examples of a training step. Numbers are copied. A call that uses a batch takes the examples that it has at that moment: it
 * may be changed, or freed, right after. Threads that fill the same batch mix up their examples.
 */
typedef struct tinkex_batch tinkex_batch;

tinkex_status tinkex_batch_new(tinkex_batch **batch, tinkex_error **error);

/*
 * Adds the example of a text of `count` tokens, at least two, for the loss "cross_entropy": each token but the first is predicted
 * from those before it. weights has `count` numbers, 0 for the tokens of a prompt and 1 for those to learn; the first is not used.
 * NULL stands for 1 everywhere.
 */
tinkex_status tinkex_batch_add_text(tinkex_batch *batch, const uint32_t *tokens, const float *weights, size_t count,
                                    tinkex_error **error);

/*
 * Adds an example with these input tokens, whose loss inputs follow with tinkex_batch_set_...: one number for each input token,
 * "target_tokens" (integers: the token to predict after each) and what the loss needs ("weights", "logprobs", "advantages" ...).
 */
tinkex_status tinkex_batch_add_tokens(tinkex_batch *batch, const uint32_t *tokens, size_t count, tinkex_error **error);

/* Sets a loss input of the last example. NaN and infinities are refused. */
tinkex_status tinkex_batch_set_floats(tinkex_batch *batch, const char *name, const float *values, size_t count,
                                      tinkex_error **error);

/* Sets a loss input of the last example. */
tinkex_status tinkex_batch_set_integers(tinkex_batch *batch, const char *name, const int64_t *values, size_t count,
                                        tinkex_error **error);

/*
 * Adds an example of any form, with images or several targets for each token:
 * {"model_input": {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}]},
 *  "loss_fn_inputs": {"target_tokens": {"dtype": "int64", "data": [2, 3], "shape": [2]}}}
 */
tinkex_status tinkex_batch_add_json(tinkex_batch *batch, const char *datum_json, tinkex_error **error);

/* The number of examples; 0 for NULL. */
size_t tinkex_batch_count(const tinkex_batch *batch);

void tinkex_batch_free(tinkex_batch *batch);

/* ---- Results ----------------------------------------------------------------------------------------------------------------- */

/* What a call returned. It does not change. */
typedef struct tinkex_result tinkex_result;

/* All of it, in the form of the Tinker API. Numbers that are not finite are null. NULL for NULL. */
const char *tinkex_result_json(const tinkex_result *result);

/* The path of a save, such as "tinker://RUN/weights/NAME"; NULL for other results. */
const char *tinkex_result_path(const tinkex_result *result);

/*
 * A metric of a pass, such as "loss:sum" (the loss summed over the batch, in nats), or of an optimizer step. May be NaN. A metric
 * that the result does not have is an error, whose message lists those that it has.
 */
tinkex_status tinkex_result_metric(const tinkex_result *result, const char *name, double *value, tinkex_error **error);

/* The number of examples of a pass, or of sequences of a sample; 0 for other results. */
size_t tinkex_result_count(const tinkex_result *result);

/*
 * The log-probabilities, in nats, of the target tokens of an example of a pass, or of the tokens of a sampled sequence. May be NaN.
 * They belong to the result.
 */
tinkex_status tinkex_result_logprobs(const tinkex_result *result, size_t index, const float **logprobs, size_t *count,
                                     tinkex_error **error);

/* The tokens of a sampled sequence. They belong to the result. */
tinkex_status tinkex_result_tokens(const tinkex_result *result, size_t index, const uint32_t **tokens, size_t *count,
                                   tinkex_error **error);

/* Why a sampled sequence ended: "length", "stop", or another word of the service. NULL if there is no such sequence. */
const char *tinkex_result_stop_reason(const tinkex_result *result, size_t index);

void tinkex_result_free(tinkex_result *result);

/* ---- Results that are pending ------------------------------------------------------------------------------------------------- */

/*
 * The result of a submitted call. Functions tinkex_..._submit_... make one at once, without waiting for the service; if a queue is
 * full, they fail with TINKEX_QUEUE_FULL. Requests are sent, and results fetched, in the background, whether anybody waits or not.
 */
typedef struct tinkex_pending tinkex_pending;

/*
 * Waits for the result up to timeout_ms milliseconds; 0 does not block, and -1 waits as long as it takes, or up to the
 * timeout_operation of the configuration. Returns TINKEX_NOT_READY, without an error, if the time is over first: wait again. `result`
 * may be NULL if it is not needed. The result is given once: a wait after that is an error.
 */
tinkex_status tinkex_pending_wait(tinkex_pending *pending, int64_t timeout_ms, tinkex_result **result,
                                  tinkex_error **error);

/* 1 if the result, or an error, is ready, else 0. Does not block. */
int32_t tinkex_pending_is_ready(const tinkex_pending *pending);

/* The id of the request, once the service gave it one and until the result is ready; otherwise NULL. */
char *tinkex_pending_request_id(const tinkex_pending *pending);

/*
 * The result of a request that is known by its id, from tinkex_pending_request_id or tinkex_error_request_id: after a wait that timed out,
 * or after a restart of the program. The kind is "forward", "forward_backward", "optim_step", "save_state", "load_state",
 * "save_weights_for_sampler", "unload_model" or "sample". The service keeps results for a while. Does not block.
 */
tinkex_status tinkex_service_pending(tinkex_service *service, const char *kind, const char *request_id,
                                     tinkex_pending **pending, tinkex_error **error);

/*
 * Cancels the call. Waits of other threads for it end with TINKEX_CANCELLED. What is not sent yet is withdrawn; what was sent may take
 * effect. Does nothing if the result is ready.
 */
void tinkex_pending_cancel(tinkex_pending *pending);

/*
 * Frees the handle. Cancels the call, except that a training step that was submitted still takes place, provided that its trainer lives
 * until it is sent.
 */
void tinkex_pending_free(tinkex_pending *pending);

/* ---- Training ---------------------------------------------------------------------------------------------------------------- */

typedef struct tinkex_sampler tinkex_sampler;
typedef struct tinkex_tokenizer tinkex_tokenizer;

/*
 * Trains one LoRA adapter on a base model. Its requests run in the order of the calls, from whichever threads. Each operation has a
 * form that blocks until it has the result, and a form that submits. `result` may be NULL if it is not needed.
 */
typedef struct tinkex_trainer tinkex_trainer;

/*
 * Creates an adapter. Keys of options_json: lora_config {"rank", "seed", "train_mlp", "train_attn", "train_unembed"},
 * optimizer_config {"type": "adamw"} or {"type": "dimuon"}, user_metadata (object of texts). Blocks.
 */
tinkex_status tinkex_trainer_create(tinkex_service *service, const char *base_model, const char *options_json,
                                    tinkex_trainer **trainer, tinkex_error **error);

/*
 * Creates an adapter like the one that a checkpoint was saved from, and loads its weights. Keys of options_json: with_optimizer (true
 * to load the optimizer's state, too), base_model, optimizer_config, weights_access_token, user_metadata. Blocks.
 */
tinkex_status tinkex_trainer_create_from_state(tinkex_service *service, const char *path, const char *options_json,
                                               tinkex_trainer **trainer, tinkex_error **error);

/* The id of the model; NULL for NULL. */
const char *tinkex_trainer_model_id(const tinkex_trainer *trainer);

/* The model's tokenizer. Blocks for a request and, unless it is the tokenizer of bytes, for its file. Keep it: it is not cached. */
tinkex_status tinkex_trainer_tokenizer(tinkex_trainer *trainer, tinkex_tokenizer **tokenizer, tinkex_error **error);

/*
 * Computes the loss of a batch and the log-probabilities of its target tokens, without gradients. loss_name is "cross_entropy",
 * "importance_sampling", "ppo" or another loss of the service; loss_config_json has its settings, such as
 * {"clip_low_threshold": 0.8}.
 */
tinkex_status tinkex_trainer_forward(tinkex_trainer *trainer, const tinkex_batch *batch, const char *loss_name,
                                     const char *loss_config_json, tinkex_result **result, tinkex_error **error);
tinkex_status tinkex_trainer_submit_forward(tinkex_trainer *trainer, const tinkex_batch *batch, const char *loss_name,
                                            const char *loss_config_json, tinkex_pending **pending, tinkex_error **error);

/* As tinkex_trainer_forward; also accumulates the gradient. */
tinkex_status tinkex_trainer_forward_backward(tinkex_trainer *trainer, const tinkex_batch *batch, const char *loss_name,
                                              const char *loss_config_json, tinkex_result **result, tinkex_error **error);
tinkex_status tinkex_trainer_submit_forward_backward(tinkex_trainer *trainer, const tinkex_batch *batch,
                                                     const char *loss_name, const char *loss_config_json,
                                                     tinkex_pending **pending, tinkex_error **error);

/*
 * What a loss function gets: for each of the `count` examples of the batch, `lengths[i]` log-probabilities of its target tokens in
 * `logprobs[i]`, and as many places for the derivative of the loss with respect to each in `gradients[i]`, which are 0 at first. The
 * function writes into these places, must set `loss`, and may add metrics. Everything lives until the function returns. NaN and
 * infinities in the loss or the gradients fail the call with TINKEX_INVALID_INPUT, and the model is unchanged.
 */
typedef struct tinkex_loss_call {
    const size_t count;
    const size_t *const lengths;
    const float *const *const logprobs;
    float *const *const gradients;
    double loss;
    void *const reserved; /* of the library */
} tinkex_loss_call;

/*
 * A loss function of the program. Returns 0, or any other number to fail: the call then fails with TINKEX_CALLBACK, the causes name the
 * number, and the model is unchanged. It runs once, on the calling thread, and may call other functions of the library, also with the
 * same trainer: these calls come between the two passes. It must not wait for calls with this trainer that other threads make meanwhile:
 * those wait for it. It must not free the trainer, let a C++ exception out, or leave with longjmp.
 */
typedef int32_t (*tinkex_loss_function)(void *context, tinkex_loss_call *call);

/* Adds a metric to those of the result. Only inside the loss function, on its thread. */
tinkex_status tinkex_loss_metric(tinkex_loss_call *call, const char *name, double value, tinkex_error **error);

/*
 * Accumulates the gradient of a loss that the program computes. The examples need "target_tokens". In the metrics, "loss:sum" is the
 * loss of the function. The form that submits blocks, too: for a first pass and the function.
 */
tinkex_status tinkex_trainer_forward_backward_custom(tinkex_trainer *trainer, const tinkex_batch *batch,
                                                     tinkex_loss_function function, void *context, tinkex_result **result,
                                                     tinkex_error **error);
tinkex_status tinkex_trainer_submit_forward_backward_custom(tinkex_trainer *trainer, const tinkex_batch *batch,
                                                            tinkex_loss_function function, void *context,
                                                            tinkex_pending **pending, tinkex_error **error);

/*
 * Updates the adapter from the accumulated gradient, and clears the gradient. Keys of params_json: learning_rate, beta1, beta2, eps,
 * weight_decay, grad_clip_norm, type ("adamw", the default); or, for a model with that optimizer, {"type": "dimuon", "learning_rate",
 * "beta1", "grad_clip_norm"}.
 */
tinkex_status tinkex_trainer_optim_step(tinkex_trainer *trainer, const char *params_json, tinkex_result **result,
                                        tinkex_error **error);
tinkex_status tinkex_trainer_submit_optim_step(tinkex_trainer *trainer, const char *params_json,
                                               tinkex_pending **pending, tinkex_error **error);

/*
 * Saves the adapter and the optimizer's state, to continue training; tinkex_result_path has the path. Keys of options_json:
 * ttl_seconds, overwrite (true to replace a checkpoint of this name), user_metadata.
 */
tinkex_status tinkex_trainer_save_state(tinkex_trainer *trainer, const char *name, const char *options_json,
                                        tinkex_result **result, tinkex_error **error);
tinkex_status tinkex_trainer_submit_save_state(tinkex_trainer *trainer, const char *name, const char *options_json,
                                               tinkex_pending **pending, tinkex_error **error);

/* Saves the adapter, to sample from. Keys of options_json: ttl_seconds, user_metadata. */
tinkex_status tinkex_trainer_save_weights_for_sampler(tinkex_trainer *trainer, const char *name, const char *options_json,
                                                      tinkex_result **result, tinkex_error **error);
tinkex_status tinkex_trainer_submit_save_weights_for_sampler(tinkex_trainer *trainer, const char *name,
                                                             const char *options_json, tinkex_pending **pending,
                                                             tinkex_error **error);

/* Loads an adapter that tinkex_trainer_save_state saved. Keys of options_json: with_optimizer, weights_access_token. */
tinkex_status tinkex_trainer_load_state(tinkex_trainer *trainer, const char *path, const char *options_json,
                                        tinkex_result **result, tinkex_error **error);
tinkex_status tinkex_trainer_submit_load_state(tinkex_trainer *trainer, const char *path, const char *options_json,
                                               tinkex_pending **pending, tinkex_error **error);

/* Frees the model on the service. Weights that are not saved are lost, and later calls fail. */
tinkex_status tinkex_trainer_unload_model(tinkex_trainer *trainer, tinkex_result **result, tinkex_error **error);
tinkex_status tinkex_trainer_submit_unload_model(tinkex_trainer *trainer, tinkex_pending **pending, tinkex_error **error);

/* Saves the adapter without a name, and gives a sampler of these weights. Blocks. */
tinkex_status tinkex_trainer_get_sampler(tinkex_trainer *trainer, tinkex_sampler **sampler, tinkex_error **error);

/*
 * Frees the handle. What was submitted is still sent if a pending of it lives; otherwise what is not sent yet is dropped, and the call
 * blocks up to half a second (timeout_drop) for what is being sent. Does not unload the model.
 */
void tinkex_trainer_free(tinkex_trainer *trainer);

/* ---- Sampling ---------------------------------------------------------------------------------------------------------------- */

/* A sampler of a base model, or of saved weights by their path (a text with "://"). Blocks for one request. */
tinkex_status tinkex_sampler_create(tinkex_service *service, const char *model, tinkex_sampler **sampler,
                                    tinkex_error **error);

/* As tinkex_trainer_tokenizer. */
tinkex_status tinkex_sampler_tokenizer(tinkex_sampler *sampler, tinkex_tokenizer **tokenizer, tinkex_error **error);

/*
 * Samples from a prompt of `count` tokens; the result has a sequence for each sample. Keys of options_json: num_samples (default 1),
 * sampling_params {"max_tokens", "temperature", "top_p", "top_k", "seed", "stop" (a text, or a list of texts or tokens)},
 * prompt_logprobs (true), topk_prompt_logprobs, topk_sample_logprobs, prompt_alt_tokens_k, prompt_logprobs_last_n,
 * target_prompt_logprobs (a tensor). What these add is in tinkex_result_json. For a prompt with images, give no tokens and the key
 * prompt {"chunks": [...]}. The first form blocks.
 */
tinkex_status tinkex_sampler_sample(tinkex_sampler *sampler, const uint32_t *prompt, size_t count,
                                    const char *options_json, tinkex_result **result, tinkex_error **error);
tinkex_status tinkex_sampler_submit_sample(tinkex_sampler *sampler, const uint32_t *prompt, size_t count,
                                           const char *options_json, tinkex_pending **pending, tinkex_error **error);

/*
 * The log-probability of each token given those before it, in nats: fills the caller's `count` places of `logprobs`. Where there is
 * none, as for the first token, it is NaN and has_logprob, which has `count` places or is NULL, has 0; a NaN of a diverged model has 1.
 * Blocks.
 */
tinkex_status tinkex_sampler_compute_logprobs(tinkex_sampler *sampler, const uint32_t *tokens, size_t count,
                                              float *logprobs, uint8_t *has_logprob, tinkex_error **error);

void tinkex_sampler_free(tinkex_sampler *sampler);

/* ---- Tokenizers -------------------------------------------------------------------------------------------------------------- */

/*
 * Reads a tokenizer.json: the file, or the directory with it. Fails with TINKEX_CONFIG if the library was built without the feature
 * `tokenizers`; the tokenizer of bytes, which the models of the local server have, is in every build.
 */
tinkex_status tinkex_tokenizer_from_path(const char *path, tinkex_tokenizer **tokenizer, tinkex_error **error);

/*
 * The tokens of a text. `tokens` has `capacity` places; `count` is set to the number of tokens. If there is not enough space, the call
 * fails with TINKEX_INVALID_INPUT and `count` says how many places it takes.
 */
tinkex_status tinkex_tokenizer_encode(const tinkex_tokenizer *tokenizer, const char *text, uint32_t *tokens, size_t capacity,
                                      size_t *count, tinkex_error **error);

/* The text of tokens, without special tokens. What is not UTF-8 becomes U+FFFD, and so do zero bytes. */
tinkex_status tinkex_tokenizer_decode(const tinkex_tokenizer *tokenizer, const uint32_t *tokens, size_t count, char **text,
                                      tinkex_error **error);

/* The token that ends a text; -1 if it is not known. */
int64_t tinkex_tokenizer_eos_token(const tinkex_tokenizer *tokenizer);

void tinkex_tokenizer_free(tinkex_tokenizer *tokenizer);

#ifdef __cplusplus
}
#endif

#endif
