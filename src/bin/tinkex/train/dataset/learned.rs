//! Which messages of a conversation are learned: what `--train-on` says, without those that have `"weight": 0`.

use tinkex::chat::{Message, Role, TrainOn};

use super::message::place;

/// What a conversation is trained on. If weights leave out messages that the mode trains, those that stay are marked. `weights` has
/// that of each message: `false` for 0 and `true` for 1. The errors number messages from `first`.
pub(super) fn choose(
    messages: &mut [Message],
    weights: &[Option<bool>],
    first: usize,
    train_on: TrainOn,
) -> Result<TrainOn, String> {
    let mut chosen = chosen(messages, weights, train_on);
    for (number, ((message, weight), is_chosen)) in (first..).zip(messages.iter().zip(weights).zip(&chosen)) {
        check(message, *weight, *is_chosen, train_on)
            .map_err(|why| format!("{} {why}", place(number, &message.role)))?;
    }
    let trains = |messages: &[Message], chosen: &[bool]| {
        messages.iter().zip(chosen).any(|(message, is_chosen)| *is_chosen && has_content(message))
    };
    if !trains(messages, &chosen) {
        return Err(format!("{}, so there is nothing to train on", none_of(train_on)));
    }
    let leaves_out = chosen.iter().zip(weights).any(|(is_chosen, weight)| *is_chosen && *weight == Some(false));
    if leaves_out || train_on == TrainOn::Marked {
        for ((message, weight), is_chosen) in messages.iter_mut().zip(weights).zip(&mut chosen) {
            *is_chosen &= *weight != Some(false);
            message.trainable = Some(*is_chosen);
        }
    }
    match trains(messages, &chosen) {
        true => Ok(if leaves_out { TrainOn::Marked } else { train_on }),
        false if train_on == TrainOn::AllAssistantMessages => {
            Err("all assistant messages have weight 0, so there is nothing to train on".to_owned())
        }
        false => Err(format!("what --train-on {train_on} trains has weight 0, so there is nothing to train on")),
    }
}

/// Checks that a message says nothing that is ignored.
fn check(message: &Message, weight: Option<bool>, is_chosen: bool, train_on: TrainOn) -> Result<(), String> {
    match (message.trainable, weight) {
        (Some(_), _) if train_on != TrainOn::Marked => {
            Err(format!("has \"trainable\", which only --train-on {} reads", TrainOn::Marked))
        }
        (Some(trainable), Some(weight)) if trainable != weight => {
            Err("has a weight and a \"trainable\" that contradict each other".to_owned())
        }
        (None, Some(true)) if !is_chosen && message.role != Role::Assistant => {
            let whose = match train_on {
                TrainOn::AllUserAndSystemMessages => "the messages of user and system",
                _ => "the assistant's messages",
            };
            Err(format!("has weight 1, but only {whose} can be trained on with --train-on {train_on}"))
        }
        (_, Some(false)) if train_on == TrainOn::AllTokens => {
            Err(format!("has weight 0, but --train-on {train_on} trains on everything"))
        }
        _ => Ok(()),
    }
}

/// Which messages are trained, whatever their weights say.
fn chosen(messages: &[Message], weights: &[Option<bool>], train_on: TrainOn) -> Vec<bool> {
    let last = |role: &Role| messages.iter().rposition(|message| message.role == *role);
    let (last_reply, last_question) = (last(&Role::Assistant), last(&Role::User));
    let is_chosen = |(index, (message, weight)): (usize, (&Message, &Option<bool>))| match train_on {
        TrainOn::LastAssistantMessage => last_reply == Some(index),
        TrainOn::LastAssistantTurn => {
            message.role == Role::Assistant && last_question.is_none_or(|question| index > question)
        }
        TrainOn::AllUserAndSystemMessages => matches!(message.role, Role::User | Role::System | Role::Developer),
        TrainOn::AllMessages | TrainOn::AllTokens => true,
        TrainOn::Marked => message.trainable.or(*weight) == Some(true),
        _ => message.role == Role::Assistant,
    };
    messages.iter().zip(weights).enumerate().map(is_chosen).collect()
}

fn has_content(message: &Message) -> bool {
    !message.text().trim().is_empty() || message.reasoning_content.is_some() || !message.tool_calls.is_empty()
}

fn none_of(train_on: TrainOn) -> &'static str {
    match train_on {
        TrainOn::AllAssistantMessages | TrainOn::LastAssistantMessage => "no assistant message with content",
        TrainOn::LastAssistantTurn => "no assistant message with content after the last one of the user",
        TrainOn::AllUserAndSystemMessages => "no message of user or system with content",
        TrainOn::Marked => "no message that is marked with \"trainable\": true",
        _ => "no message with content",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is trained of system, user, assistant, user, assistant, assistant.
    fn trained(weights: &[Option<bool>], train_on: TrainOn) -> Result<(Vec<bool>, TrainOn), String> {
        let mut messages = vec![
            Message::system("s"),
            Message::user("u"),
            Message::assistant("a"),
            Message::user("v"),
            Message::assistant("b"),
            Message::assistant("c"),
        ];
        let train_on = choose(&mut messages, weights, 1, train_on)?;
        Ok((messages.iter().map(|message| message.trainable == Some(true)).collect(), train_on))
    }

    #[test]
    fn a_mode_stays_without_weights_of_zero() {
        let (free, one) = ([None; 6], [None, None, Some(true), None, None, Some(true)]);
        for mode in TrainOn::ALL {
            match trained(&free, mode) {
                Ok(chosen) => assert_eq!(chosen, (vec![false; 6], mode)),
                Err(why) => assert!(mode == TrainOn::Marked && why.starts_with("no message that is marked"), "{why}"),
            }
        }
        assert_eq!(trained(&one, TrainOn::LastAssistantTurn), Ok((vec![false; 6], TrainOn::LastAssistantTurn)));
        let marked = (vec![false, false, true, false, false, true], TrainOn::Marked);
        assert_eq!(trained(&one, TrainOn::Marked), Ok(marked));
    }

    #[test]
    fn weights_of_zero_leave_messages_out() {
        for (mode, zero, rest) in [
            (TrainOn::AllAssistantMessages, 2, vec![4, 5]),
            (TrainOn::LastAssistantTurn, 4, vec![5]),
            (TrainOn::AllUserAndSystemMessages, 0, vec![1, 3]),
            (TrainOn::AllMessages, 3, vec![0, 1, 2, 4, 5]),
        ] {
            let mut weights = [None; 6];
            weights[zero] = Some(false);
            let (chosen, marked) = trained(&weights, mode).unwrap();
            let expected: Vec<bool> = (0..6).map(|index| rest.contains(&index)).collect();
            assert_eq!((chosen, marked), (expected, TrainOn::Marked), "{mode}");
        }
        let mut messages = [Message::new(Role::Developer, "d"), Message::user("u")];
        let train_on = choose(&mut messages, &[Some(false), None], 1, TrainOn::AllUserAndSystemMessages);
        let marks = messages.map(|message| message.trainable);
        assert_eq!((train_on, marks), (Ok(TrainOn::Marked), [Some(false), Some(true)]));
        // A message that the mode leaves out anyway.
        let weights = [None, Some(false), None, None, None, None];
        let kept = (vec![false; 6], TrainOn::LastAssistantMessage);
        assert_eq!(trained(&weights, TrainOn::LastAssistantMessage), Ok(kept));
    }

    #[test]
    fn weights_that_would_be_ignored_are_refused() {
        let at = |index: usize, weight| {
            let mut weights = [None; 6];
            weights[index] = Some(weight);
            weights
        };
        for (mode, weights, why) in [
            (TrainOn::AllTokens, at(1, false), "message 2 (user) has weight 0, but --train-on all_tokens trains on"),
            (TrainOn::LastAssistantMessage, at(5, false), "what --train-on last_assistant_message trains has weight 0"),
            (TrainOn::AllAssistantMessages, at(0, true), "message 1 (system) has weight 1, but only the assistant's"),
        ] {
            let error = trained(&weights, mode).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
