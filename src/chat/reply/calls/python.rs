//! Calls as Python writes them: `[name(argument='value', other=1.5), …]`.

use serde_json::{Map, Number, Value};

use super::ToolCall;

/// No reply needs a deeper one, and a parser must end.
const DEEPEST: usize = 64;

pub(super) fn calls(text: &str) -> Result<Vec<ToolCall>, String> {
    let mut parser = Parser { rest: text.trim() };
    parser.expect('[')?;
    let mut calls = Vec::new();
    while !parser.takes(']') {
        calls.push(parser.call()?);
        if !parser.takes(',') {
            parser.expect(']')?;
            break;
        }
    }
    if !parser.rest.trim().is_empty() {
        return Err("a text follows the list of tool calls".to_owned());
    }
    Ok(calls)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn takes(&mut self, character: char) -> bool {
        let rest = self.rest.trim_start();
        let found = rest.strip_prefix(character);
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }

    fn expect(&mut self, character: char) -> Result<(), String> {
        if self.takes(character) { Ok(()) } else { Err(format!("a tool call has no {character:?} where it belongs")) }
    }

    fn word(&mut self) -> Result<&'a str, String> {
        let rest = self.rest.trim_start();
        let is_name = |character: char| character.is_alphanumeric() || matches!(character, '_' | '.' | '-' | '+');
        let (word, rest) = rest.split_at(rest.find(|character| !is_name(character)).unwrap_or(rest.len()));
        self.rest = rest;
        if word.is_empty() { Err("a tool call has no name or value where it belongs".to_owned()) } else { Ok(word) }
    }

    fn call(&mut self) -> Result<ToolCall, String> {
        let name = self.word()?;
        self.expect('(')?;
        let mut arguments = Map::new();
        while !self.takes(')') {
            let key = self.word()?;
            self.expect('=')?;
            arguments.insert(key.to_owned(), self.value(DEEPEST)?);
            if !self.takes(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(ToolCall::new(name, arguments))
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        let depth = depth.checked_sub(1).ok_or("a value of a tool call is too deep")?;
        if let Some(quote @ ('\'' | '"')) = self.rest.trim_start().chars().next() {
            self.takes(quote);
            return self.string(quote).map(Value::String);
        }
        if self.takes('[') {
            return self.list(']', depth);
        }
        if self.takes('(') {
            return self.list(')', depth);
        }
        if self.takes('{') {
            return self.dict(depth);
        }
        match self.word()? {
            "True" | "true" => Ok(Value::Bool(true)),
            "False" | "false" => Ok(Value::Bool(false)),
            "None" | "null" => Ok(Value::Null),
            word => {
                let number =
                    word.parse::<i64>().map(Number::from).or_else(|_| word.parse::<u64>().map(Number::from)).ok();
                let is_digit = word.contains(|character: char| character.is_ascii_digit());
                let float = || word.parse::<f64>().ok().filter(|_| is_digit).and_then(Number::from_f64);
                let number = number.or_else(float).ok_or_else(|| format!("a tool call has the value {word}"))?;
                Ok(Value::Number(number))
            }
        }
    }

    fn list(&mut self, end: char, depth: usize) -> Result<Value, String> {
        let mut values = Vec::new();
        while !self.takes(end) {
            values.push(self.value(depth)?);
            if !self.takes(',') {
                self.expect(end)?;
                break;
            }
        }
        Ok(Value::Array(values))
    }

    fn dict(&mut self, depth: usize) -> Result<Value, String> {
        let mut entries = Map::new();
        while !self.takes('}') {
            let Value::String(key) = self.value(depth)? else {
                return Err("a key of a tool call's value is no string".to_owned());
            };
            self.expect(':')?;
            entries.insert(key, self.value(depth)?);
            if !self.takes(',') {
                self.expect('}')?;
                break;
            }
        }
        Ok(Value::Object(entries))
    }

    /// The rest of a string after its quote.
    fn string(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut characters = self.rest.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => text.push_str(&escape(&mut characters)?),
                _ if character == quote => {
                    self.rest = characters.as_str();
                    return Ok(text);
                }
                _ => text.push(character),
            }
        }
        Err("a string of a tool call is not closed".to_owned())
    }
}

/// What follows a backslash. As in Python, it stays if it escapes nothing.
fn escape(characters: &mut std::str::Chars<'_>) -> Result<String, String> {
    let character = characters.next().ok_or("a string of a tool call is not closed")?;
    let digits = match character {
        'n' => return Ok("\n".to_owned()),
        't' => return Ok("\t".to_owned()),
        'r' => return Ok("\r".to_owned()),
        '\\' | '\'' | '"' => return Ok(character.to_string()),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return Ok(format!("\\{character}")),
    };
    let code: String = characters.by_ref().take(digits).collect();
    let found = u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits).and_then(char::from_u32);
    found.map(String::from).ok_or_else(|| format!("a string of a tool call has \\{character}{code}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn python_values_are_read() {
        let text = r#"[book(legs=[{'from': 'A', 'to': 'Ć'}], budget=100.0, ok=True, note=None, ids=[1, -3, 'x"y'],
            tiny=1e-05, big=9007199254740993, map={"a": null}), now(), say(text='it\'s\n\x41 \d')]"#;
        let calls = calls(text).unwrap();
        let arguments: Vec<&Value> = calls.iter().map(|call| &call.arguments).collect();
        let book = json!({"legs": [{"from": "A", "to": "Ć"}], "budget": 100.0, "ok": true, "note": null, "ids": [1, -3, "x\"y"],
            "tiny": 1e-5, "big": 9_007_199_254_740_993_i64, "map": {"a": null}});
        assert_eq!(arguments, [&book, &json!({}), &json!({"text": "it's\nA \\d"})]);
        assert_eq!(calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(), ["book", "now", "say"]);
    }

    #[test]
    fn broken_calls_are_errors() {
        for text in [
            "",
            "[f(",
            "[f(a=)]",
            "[f(a='x)]",
            "[f(a=1)] and",
            "[f(a=1]",
            "[f(a='it's')]",
            "f(a=1)",
            "[f(1)]",
            "[f(a=inf)]",
        ] {
            assert!(calls(text).is_err(), "{text}");
        }
        assert!(calls(&format!("[f(a={})]", "[".repeat(100_000))).is_err());
    }
}
