use serde_json::Value;

use super::*;
use crate::threads::Slots;

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

/// Has the server promise the result of this request. Returns whether someone waits for it.
fn promise(handle: &CallHandle<Value>, completer: &Completer, ticket: u64) -> Option<bool> {
    completer.record_promise(&mut handle.state.lock(), &format!("r-{ticket}").into(), Ticket(ticket))
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "failed")
}

#[test]
fn open_promises_are_waited_for_and_abandoned() {
    let (handle, mut completers) = call(3);
    let tickets = |tickets: Vec<Ticket>| tickets.into_iter().map(|ticket| ticket.0).collect::<Vec<_>>();
    let start = || tickets(handle.state.lock().start_waiting().collect());
    let stop = || tickets(handle.state.lock().stop_waiting().collect());
    assert_eq!([promise(&handle, &completers[0], 0), promise(&handle, &completers[1], 1)], [Some(false); 2]);
    assert_eq!([start(), start()], [vec![0, 1], vec![]], "the first thread that waits");
    assert_eq!(promise(&handle, &completers[2], 2), Some(true));
    let result = decoded(&completers[0], "1");
    completers.remove(0).complete(result);
    assert_eq!([stop(), stop(), stop()], [vec![], vec![1, 2], vec![]], "the last one");
    handle.wait_from_start();
    assert_eq!(promise(&handle, &completers[1], 2), Some(true));
    assert_eq!(tickets(handle.state.lock().abandon().collect()), [1, 2]);
    assert_eq!(promise(&handle, &completers[1], 2), None);
}

#[test]
fn a_call_has_the_first_open_id() {
    let (handle, mut completers) = call(3);
    let id = || handle.state.lock().request_id();
    assert_eq!(id(), None);
    promise(&handle, &completers[1], 1);
    assert_eq!(id().as_deref(), Some("r-1"));
    promise(&handle, &completers[0], 0);
    assert_eq!(id().as_deref(), Some("r-0"));
    for expected in ["r-1", "r-0", "r-0"] {
        let result = decoded(&completers[0], "1");
        completers.remove(0).complete(result);
        assert_eq!(id().as_deref(), Some(expected));
    }
}

#[test]
fn an_error_says_whether_it_took_effect() {
    use ErrorKind::{RequestFailed, Status};
    for (promised, own, other, kind, expected) in [
        (false, false, false, Status, false),
        (false, true, false, Status, false),
        (false, false, true, Status, true),
        (false, false, true, RequestFailed, true),
        (true, true, false, Status, true),
        (true, true, false, RequestFailed, false),
        (true, true, true, RequestFailed, true),
    ] {
        let (handle, mut completers) = call(2);
        assert!(!handle.state.lock().was_written());
        for (completer, written) in completers.iter().zip([own, other]) {
            if written {
                completer.begin_write().unwrap();
            }
        }
        assert_eq!(handle.state.lock().was_written(), own || other);
        if promised {
            promise(&handle, &completers[0], 0);
        }
        completers.remove(0).complete(Err(error(kind)));
        let effect = handle.state.lock().error().unwrap().may_have_taken_effect();
        assert_eq!(effect, expected, "{promised} {own} {other} {kind:?}");
    }
}

#[test]
fn only_unheard_failures_are_returned() {
    for (abandoned, kind, expected) in
        [(false, ErrorKind::Status, false), (true, ErrorKind::Status, true), (true, ErrorKind::Cancelled, false)]
    {
        let (handle, mut completers) = call(1);
        if abandoned {
            drop(handle.state.lock().abandon());
        }
        assert_eq!(completers[0].settle(Err(error(kind))).is_some(), expected, "{abandoned} {kind:?}");
    }
}

#[test]
fn an_unaccepted_call_ends_its_submissions() {
    let requests = || [Arc::<RequestHandle>::default(), Arc::default()];
    let ended = |handle: &CallHandle<Value>| {
        let submissions = handle.state.lock().take_submissions();
        submissions.iter().for_each(Submission::end);
        submissions.len()
    };
    let submit = |completers: &[Completer], requests: &[Arc<RequestHandle>; 2]| {
        completers[0].set_submission(&requests[0]);
        completers[1].watch_submission(&requests[1])
    };
    let (handle, completers) = call(2);
    let first = requests();
    submit(&completers, &first).unwrap();
    assert_eq!(ended(&handle), 1, "a sample is withdrawn, a step is not");
    assert_eq!([first[0].is_cancelled(), first[1].is_cancelled()], [true, false]);
    let second = requests();
    submit(&completers, &second).unwrap();
    handle.state.lock().fail(error(ErrorKind::Cancelled));
    assert_eq!(ended(&handle), 2, "nothing was accepted");
    assert!(!second[1].is_cancelled(), "the running attempt ends by itself");
    assert!(completers[1].watch_submission(&second[1]).is_err());
    let (handle, completers) = call(2);
    promise(&handle, &completers[0], 0);
    handle.state.lock().fail(error(ErrorKind::Cancelled));
    completers[1].watch_submission(&second[1]).unwrap();
    assert_eq!(ended(&handle), 0, "half a batch would be a different step");
    drop(handle.state.lock().abandon());
    let [late, _] = requests();
    completers[0].set_submission(&late);
    assert!(late.is_cancelled() && ended(&handle) == 0);
}

#[test]
fn an_ended_call_is_not_wanted() {
    let (handle, completers) = call(1);
    assert!(completers[0].check_wanted().is_ok());
    drop(handle.state.lock().abandon());
    assert_eq!(completers[0].check_wanted().unwrap_err().kind(), ErrorKind::Cancelled);
    let (handle, completers) = call(1);
    handle.state.lock().fail(error(ErrorKind::Closed));
    handle.state.lock().fail(error(ErrorKind::Cancelled));
    assert_eq!(handle.state.lock().error().map(Error::kind), Some(ErrorKind::Closed), "the first error stays");
    assert_eq!(completers[0].check_wanted().unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn watchers_get_their_index_at_the_end() {
    let (handle, mut completers) = call(1);
    let ((sender, received), (other, unheard)) = (bounded(9), bounded(9));
    for (index, watcher) in [(3, &sender), (4, &other), (5, &sender)] {
        handle.state.lock().watch(index, watcher);
    }
    handle.state.lock().unwatch(&other);
    assert!(received.is_empty());
    drop(completers.remove(0));
    assert_eq!(received.try_iter().collect::<Vec<_>>(), [3, 5]);
    handle.state.lock().watch(6, &sender);
    assert_eq!(received.try_iter().collect::<Vec<_>>(), [6], "it has ended already");
    assert!(unheard.is_empty());
}

#[test]
fn json_is_no_protobuf() {
    let (_handle, completers) = call(1);
    for (bytes, expected) in [(&b"{}"[..], "but the response is JSON"), (b"\xff", "is not valid")] {
        let why = (completers[0].decode())(ResultBody::Protobuf(bytes.to_vec())).map(drop).unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn a_slot_is_freed_with_the_request() {
    let (handle, mut completers) = call(1);
    let slots = Slots::new(1, |()| true);
    assert!(!completers[0].is_holding());
    completers[0].hold(slots.take(()).unwrap().1);
    assert!(completers[0].is_holding() && slots.take(()).is_none());
    assert!(completers[0].operation() == "test" && Arc::ptr_eq(completers[0].state(), &handle.state));
    let result = decoded(&completers[0], "1");
    completers.remove(0).complete(result);
    assert!(slots.take(()).is_some());
}
