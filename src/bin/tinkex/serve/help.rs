//! What `tinkex serve --help` says of fault rules and flags.

pub(super) const CHAOS: &str = "\
Fault rules:
  Rules are separated by `;`. The first rule that matches a request applies.

      ENDPOINT:ACTION[*TIMES][%PERCENT][,SETTING=VALUE ...]

  ENDPOINT  first or last part of the path after /api/v1/, such as asample; or *
  ACTION    status code from 200 to 599: respond with it, without executing the
              request
            reset: reset the connection; silence: never respond
            reset_during, reset_after, lost_response, truncate, malformed:
              execute the request, but do not deliver a complete response
            paused_rate_limit, paused_capacity: respond to a poll that the queue
              is paused
            slow: only delay the request
  TIMES     maximum number of requests that the rule applies to
  PERCENT   probability that the rule applies to a request
  SETTING   after: number of requests that pass before the rule applies
            delay_ms: delay in milliseconds
            with a status code: retry_after, retry_after_ms, should_retry,
              header (NAME:VALUE), detail (message), body (sent verbatim; write
              \\, and \\; for , and ;)
            with a paused queue: reason, form (408 or try_again)

  Example: 'asample:429*3,retry_after_ms=50; *:slow%2.5,delay_ms=20'";

pub(super) const FLAGS: &str = "\
Flags:
  Clients of 2026 read these settings of the server. The defaults are those of
  the protocol. A switch is true or false.

    pjwt_auth_enabled=false             exchange the key for a short-lived token
    credential_default_source=api_key   or credential_cmd: where the key is from
    parallel_fwdbwd_chunks=true         send the chunks of a batch in parallel
    fwdbwd_max_chunk_len=1024           datums in a chunk
    fwdbwd_max_chunk_bytes_count=5000000
                                        estimated bytes in a chunk
    fwdbwd_dispatch_bytes_semaphore_size=50000000
                                        estimated bytes of passes being sent
    proto_compress_fwdbwd=false         compress passes with zstd
    sample_dispatch_bytes_semaphore_size=10485760
                                        estimated bytes of samples being sent
    sample_max_concurrent_requests=2000 samples in flight
    sample_no_retries=false             never resubmit an expired sample
    sample_enable_stuck_detection=true  give up samples without progress
    sample_use_retrieve_futures=false   one poll for all samples of a session
    sample_join_sampling_session=false  clones ask the server for their number
    inflight_response_bytes_semaphore_size=52428800
                                        bytes of results being received
    billing_exception_max_pause_duration_sec=3600
                                        how long clients wait after a 402
    custom_loss_server_side=false       run custom losses on the server, which
                                        this server refuses
    use_pyqwest_transport=true          HTTP library of the Python client
    refresh_interval_sec=300            how long the next two hold
    sample_cancel_enabled=false         tell the server of samples given up
    sample_cancel_max_batch_size=64     such requests at once

  Example: --flag fwdbwd_max_chunk_len=8 --flag pjwt_auth_enabled=true";
