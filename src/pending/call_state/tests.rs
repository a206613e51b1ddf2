use serde_json::Value;

use super::*;

fn decoded(completer: &Completer, json: &str) -> Result<Decoded> {
    Ok((completer.decode())(ResultBody::Json(json.as_bytes())).unwrap())
}

/// A call of this many requests, with their completers.
fn call(count: usize) -> (CallHandle<Value>, Vec<Completer>) {
    let (handle, first) = CallHandle::new("test");
    let mut completers = vec![first];
    while completers.len() < count {
        completers.push(completers[0].add_request());
    }
    (handle, completers)
}

#[test]
fn results_keep_the_order_of_the_requests() {
    let (handle, completers) = call(3);
    for (index, completer) in completers.into_iter().enumerate().rev() {
        assert!(!handle.state.lock().is_ready());
        let result = decoded(&completer, &index.to_string());
        completer.complete(result);
    }
    assert!(handle.state.lock().is_ready() && handle.state.lock().error().is_none());
    let results: Vec<_> = handle.state.lock().take::<Value>().unwrap().into_iter().map(|one| one.result).collect();
    assert_eq!(results, [0, 1, 2]);
}

#[test]
fn the_first_error_ends_the_call() {
    let (handle, mut completers) = call(3);
    let ready = handle.state.lock().ready();
    assert!(ready.try_recv().unwrap_err().is_empty());
    completers.remove(1).complete(Err(Error::new(ErrorKind::Status, "first")));
    assert!(ready.try_recv().is_ok() && handle.state.lock().is_ready());
    assert!(ready.try_recv().unwrap_err().is_disconnected());
    completers.remove(0).complete(Err(Error::new(ErrorKind::Decode, "second")));
    let result = decoded(&completers[0], "1");
    completers.remove(0).complete(result);
    assert_eq!(handle.state.lock().error().unwrap().to_string(), "test: first");
}

#[test]
fn a_dropped_completer_completes_with_an_error() {
    let (handle, mut completers) = call(2);
    drop(completers.remove(0));
    let error = handle.state.lock().error().cloned().unwrap();
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Closed, false));
    let (handle, mut completers) = call(1);
    let completer = completers.remove(0);
    completer.begin_write().unwrap();
    let panic = std::thread::spawn(move || {
        let _completer = completer;
        panic!("on purpose");
    });
    assert!(panic.join().is_err());
    let error = handle.state.lock().error().cloned().unwrap();
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Panicked, true));
}

#[test]
fn only_an_unwritten_call_can_be_cancelled() {
    let give_up = |handle: &CallHandle<Value>| handle.state.lock().fail(Error::new(ErrorKind::Cancelled, "enough"));
    let (handle, completers) = call(2);
    give_up(&handle);
    assert_eq!(completers[0].begin_write().unwrap_err().kind(), ErrorKind::Cancelled);
    let (handle, completers) = call(2);
    completers[0].begin_write().unwrap();
    give_up(&handle);
    // The first chunk of this batch was written, so the second is, too: half a batch would be a different step.
    completers[1].begin_write().unwrap();
    let (handle, completers) = call(1);
    completers[0].begin_write().unwrap();
    completers[0].mark_unwritten();
    give_up(&handle);
    assert!(completers[0].begin_write().is_err());
}
