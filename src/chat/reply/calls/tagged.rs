//! Calls whose name and arguments are between tags.

use serde_json::{Map, Value};

use super::values::{self, value};
use super::{Codes, Tool, ToolCall, object};

/// Reads a coded text from its beginning.
struct Reader<'a> {
    rest: &'a str,
    codes: &'a Codes,
}

impl<'a> Reader<'a> {
    fn new(rest: &'a str, codes: &'a Codes) -> Self {
        Reader { rest, codes }
    }

    fn skip_white_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Whether the tag came next; then it is taken.
    fn takes(&mut self, tag: &str) -> bool {
        let rest = self.rest.strip_prefix(self.codes.code(tag).as_str());
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, tag: &str) -> Result<(), String> {
        if self.takes(tag) { Ok(()) } else { Err(format!("a tool call has no {tag} where it belongs")) }
    }

    /// The text up to the tag, which is taken, too.
    fn until(&mut self, tag: &str) -> Result<&'a str, String> {
        let found = self.rest.split_once(self.codes.code(tag).as_str());
        let (text, rest) = found.ok_or_else(|| format!("a tool call has no {tag} where it belongs"))?;
        self.rest = rest;
        Ok(text)
    }

    fn end(&mut self) -> Result<(), String> {
        self.skip_white_space();
        if self.rest.is_empty() { Ok(()) } else { Err("a text follows within a tool call".to_owned()) }
    }
}

/// `<function=NAME><parameter=KEY>VALUE</parameter></function>`, with line breaks around values.
pub(super) fn xml(coded: &str, codes: &Codes, tools: &[Tool]) -> Result<ToolCall, String> {
    let mut reader = Reader::new(coded, codes);
    reader.skip_white_space();
    reader.expect("<function=")?;
    let name = name(&codes.plain(reader.until(">")?))?;
    let mut arguments = Map::new();
    loop {
        reader.skip_white_space();
        if reader.takes("</function>") {
            break;
        }
        reader.expect("<parameter=")?;
        let key = codes.plain(reader.until(">")?);
        let text = codes.plain(reader.until("</parameter>")?);
        if text.contains("\n<parameter=") || text.contains("\n<function=") {
            return Err(format!("the parameter {key:?} of a tool call is not closed"));
        }
        let text = text.strip_prefix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\n').unwrap_or(text);
        let value = value(text, values::schema(tools, &name, &key));
        arguments.insert(key, value);
    }
    reader.end()?;
    Ok(ToolCall::new(name, arguments))
}

/// `NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>`
pub(super) fn glm(coded: &str, codes: &Codes, tools: &[Tool]) -> Result<ToolCall, String> {
    let key_tag = codes.code("<arg_key>");
    let (name_text, rest) = coded.split_at(coded.find(&key_tag).unwrap_or(coded.len()));
    let name = name(codes.plain(name_text).trim())?;
    // Nothing else tells a name from a sentence.
    if name.contains(char::is_whitespace) && !tools.iter().any(|tool| tool.name() == Some(&name)) {
        return Err(format!("a tool call has the name {name:?}"));
    }
    let mut reader = Reader::new(rest, codes);
    let mut arguments = Map::new();
    loop {
        reader.skip_white_space();
        if reader.rest.is_empty() {
            return Ok(ToolCall::new(name, arguments));
        }
        reader.expect("<arg_key>")?;
        let key = codes.plain(reader.until("</arg_key>")?);
        reader.skip_white_space();
        reader.expect("<arg_value>")?;
        let text = reader.until("</arg_value>")?;
        if text.contains(&key_tag) {
            return Err(format!("the argument {key:?} of a tool call is not closed"));
        }
        let value = value(&codes.plain(text), values::schema(tools, &name, &key));
        arguments.insert(key, value);
    }
}

/// `<｜DSML｜invoke name="NAME"><｜DSML｜parameter name="KEY" string="true">VALUE</｜DSML｜parameter></｜DSML｜invoke>`; a space
/// before the words in a newer version.
pub(super) fn dsml(coded: &str, codes: &Codes) -> Result<Vec<ToolCall>, String> {
    let mark = codes.code("｜DSML｜");
    let mut reader = Reader::new(coded, codes);
    let mut calls = Vec::new();
    loop {
        reader.skip_white_space();
        if reader.rest.is_empty() {
            return Ok(calls);
        }
        reader.expect("<｜DSML｜")?;
        let space = if reader.takes(" ") { " " } else { "" };
        reader.expect("invoke name=\"")?;
        let name = name(&codes.plain(reader.until("\">")?))?;
        let mut arguments = Map::new();
        loop {
            reader.skip_white_space();
            if reader.takes(&format!("</｜DSML｜{space}invoke>")) {
                break;
            }
            reader.expect(&format!("<｜DSML｜{space}parameter name=\""))?;
            let key = codes.plain(reader.until("\" string=\"")?);
            let is_text = match reader.until("\">")? {
                "true" => true,
                "false" => false,
                other => return Err(format!("the parameter {key:?} of a tool call has string={other:?}")),
            };
            let text = reader.until(&format!("</｜DSML｜{space}parameter>"))?;
            if text.contains(&mark) {
                return Err(format!("the parameter {key:?} of a tool call is not closed"));
            }
            let text = codes.plain(text);
            let value = if is_text {
                Value::String(text)
            } else {
                serde_json::from_str(&text)
                    .map_err(|error| format!("the parameter {key:?} of a tool call is not JSON: {error}"))?
            };
            arguments.insert(key, value);
        }
        calls.push(ToolCall::new(name, arguments));
    }
}

/// `<|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>{…}<|tool_call_end|>`
pub(super) fn kimi(coded: &str, codes: &Codes) -> Result<Vec<ToolCall>, String> {
    let mut reader = Reader::new(coded, codes);
    let mut calls = Vec::new();
    loop {
        reader.skip_white_space();
        if reader.rest.is_empty() {
            return Ok(calls);
        }
        reader.expect("<|tool_call_begin|>")?;
        let id = codes.plain(reader.until("<|tool_call_argument_begin|>")?);
        let id = id.trim();
        // An ID that a program made names no function; then it is the name as well.
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let numbered = id.rsplit_once(':').filter(|(_, number)| is_number(number)).map_or(id, |(name, _)| name);
        let name = name(numbered.strip_prefix("functions.").unwrap_or(numbered))?;
        let arguments = object(&codes.plain(reader.until("<|tool_call_end|>")?), &name)?;
        calls.push(ToolCall::new(name, arguments).id(id));
    }
}

/// `<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME`, a block of JSON and `<｜tool▁call▁end｜>`; the newer
/// `<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{…}<｜tool▁call▁end｜>`.
pub(super) fn deepseek(coded: &str, codes: &Codes) -> Result<Vec<ToolCall>, String> {
    let mut reader = Reader::new(coded, codes);
    let mut calls = Vec::new();
    loop {
        reader.skip_white_space();
        if reader.rest.is_empty() {
            return Ok(calls);
        }
        reader.expect("<｜tool▁call▁begin｜>")?;
        let first = codes.plain(reader.until("<｜tool▁sep｜>")?);
        let second = codes.plain(reader.until("<｜tool▁call▁end｜>")?);
        let (name_text, arguments) = match second.split_once("\n```json\n") {
            Some((name, rest)) => {
                let block = rest.trim_end().strip_suffix("```");
                (name.to_owned(), block.ok_or("the arguments of a tool call are not closed")?.to_owned())
            }
            None => (first, second),
        };
        let name = name(name_text.trim())?;
        let arguments = object(&arguments, &name)?;
        calls.push(ToolCall::new(name, arguments));
    }
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['<', '>', '\n', '"']) {
        return Err(format!("a tool call has the name {text:?}"));
    }
    Ok(text.to_owned())
}
