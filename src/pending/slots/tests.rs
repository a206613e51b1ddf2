use super::*;

fn decoded(part: &Part, json: &str) -> Result<Decoded> {
    Ok((part.decode())(json.as_bytes()).unwrap())
}

#[test]
fn results_come_together_in_the_order_of_the_parts_whichever_is_first() {
    let (slots, parts) = Slots::<u32>::new("test", 3);
    for (index, part) in parts.into_iter().enumerate().rev() {
        assert!(!slots.board.lock().is_ready());
        let result = decoded(&part, &index.to_string());
        part.resolve(result);
    }
    assert!(slots.board.lock().is_ready() && slots.board.lock().error().is_none());
    assert_eq!(slots.board.lock().take::<u32>().unwrap(), [0, 1, 2]);
}

#[test]
fn the_first_error_ends_the_call_and_stays() {
    let (slots, mut parts) = Slots::<u32>::new("test", 3);
    let ready = slots.board.lock().ready();
    assert!(ready.try_recv().unwrap_err().is_empty());
    parts.remove(1).resolve(Err(Error::new(ErrorKind::Status, "first")));
    assert!(ready.try_recv().is_ok() && slots.board.lock().is_ready());
    assert!(ready.try_recv().unwrap_err().is_disconnected());
    parts.remove(0).resolve(Err(Error::new(ErrorKind::Decode, "second")));
    let result = decoded(&parts[0], "1");
    parts.remove(0).resolve(result);
    assert_eq!(slots.board.lock().error().unwrap().to_string(), "test: first");
}

#[test]
fn a_part_that_is_dropped_on_the_way_is_resolved_with_closed_and_in_a_panic_with_panicked() {
    let (slots, mut parts) = Slots::<u32>::new("test", 2);
    drop(parts.remove(0));
    let error = slots.board.lock().error().cloned().unwrap();
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Closed, false));
    let (slots, mut parts) = Slots::<u32>::new("test", 1);
    let part = parts.remove(0);
    part.begin().unwrap();
    let panic = std::thread::spawn(move || {
        let _part = part;
        panic!("on purpose");
    });
    assert!(panic.join().is_err());
    let error = slots.board.lock().error().cloned().unwrap();
    assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Panicked, true));
}

#[test]
fn a_call_that_was_given_up_can_be_taken_back_only_while_nothing_of_it_is_written() {
    let give_up = |slots: &Slots<u32>| slots.board.lock().fail(Error::new(ErrorKind::Cancelled, "enough"));
    let (slots, parts) = Slots::<u32>::new("test", 2);
    give_up(&slots);
    assert_eq!(parts[0].begin().unwrap_err().kind(), ErrorKind::Cancelled);
    let (slots, parts) = Slots::<u32>::new("test", 2);
    parts[0].begin().unwrap();
    give_up(&slots);
    // The second chunk of a batch whose first is on its way goes, too: half a batch would be another step.
    parts[1].begin().unwrap();
    let (slots, parts) = Slots::<u32>::new("test", 1);
    parts[0].begin().unwrap();
    parts[0].was_not_written();
    give_up(&slots);
    assert!(parts[0].begin().is_err());
}
