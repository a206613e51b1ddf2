//! `+`, `-` and `~` as Python has them, with limits: a template that doubles a text in a loop is stopped before it fills the memory.
//!
//! The engine's own operators have no limit and cannot be replaced. So sums become calls of filters: `a + b ~ c` becomes
//! `((a)|add((b)|concat(c)))`. Products, and lists and dicts that are written, are given to a filter that checks them: `[a]` becomes
//! `([a]|kept)`. Other expressions stay as they are.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::budget::{self, Paid};
use super::output::MAX_TEXT;
use super::python;
use super::scan::{Token, ends_operand, ends_sum, tokens};
use super::slices;

/// How many items a list may have that an expression makes.
const MAX_ITEMS: usize = 1 << 20;

/// The names of the filters. A template cannot hold them by accident.
const ADD: &str = "__tinkex_add";
const SUBTRACT: &str = "__tinkex_subtract";
const CONCATENATE: &str = "__tinkex_concatenate";
/// Those of products, and of lists and dicts that are written.
const MADE: &str = "__tinkex_made";
const KEPT: &str = "__tinkex_kept";
const TEXT: &str = "__tinkex_text";

pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.add_filter(ADD, add);
    environment.add_filter(SUBTRACT, subtract);
    environment.add_filter(CONCATENATE, concatenate);
    environment.add_filter(MADE, budget::made);
    environment.add_filter(KEPT, budget::kept);
    environment.add_filter(TEXT, text);
}

/// An error for a text that is too long.
pub(super) fn check_text(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_TEXT {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("a text of more than {MAX_TEXT} bytes")));
    }
    Ok(())
}

fn add(left: &Value, right: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (left.as_str(), right.as_str()) {
        let length = left.len().saturating_add(right.len());
        check_text(length)?;
        budget::charge(length)?;
        return Ok(Value::from([left, right].concat()));
    }
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if is_list(left) && is_list(right) {
        let items: Vec<Value> = left.try_iter()?.chain(right.try_iter()?).take(MAX_ITEMS + 1).collect();
        if items.len() > MAX_ITEMS {
            return Err(Error::new(ErrorKind::InvalidOperation, format!("a list of more than {MAX_ITEMS} items")));
        }
        budget::charge_items(items.len())?;
        return Ok(Value::from(items));
    }
    calculated(left, right, '+', i128::checked_add, |left, right| left + right)
}

fn subtract(left: &Value, right: &Value) -> Result<Value, Error> {
    calculated(left, right, '-', i128::checked_sub, |left, right| left - right)
}

fn concatenate(left: &Value, right: &Value) -> Result<Value, Error> {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    check_text(length(left).saturating_add(length(right)))?;
    let mut text = String::new();
    let mut out = Paid(&mut text);
    python::write_str(&mut out, left)?;
    python::write_str(&mut out, right)?;
    check_text(text.len())?;
    Ok(Value::from(text))
}

/// A term of a sum of texts.
fn text(term: &Value) -> Result<Value, Error> {
    if term.as_str().is_some() {
        return Ok(term.clone());
    }
    let message = format!("{} and a text cannot be added", term.kind());
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn calculated(
    left: &Value,
    right: &Value,
    sign: char,
    of_integers: impl Fn(i128, i128) -> Option<i128>,
    of_floats: impl Fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    // True is 1.
    let integer = |value: &Value| match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    };
    if let (Some(left), Some(right)) = (integer(left), integer(right)) {
        let result =
            of_integers(left, right).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "a number is too large"))?;
        return Ok(i64::try_from(result).map_or_else(|_| Value::from(result), Value::from));
    }
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Bool | ValueKind::Number);
    if !is_number(left) || !is_number(right) {
        let message = format!("{} {sign} {} cannot be calculated", left.kind(), right.kind());
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(Value::from(of_floats(f64::try_from(left.clone())?, f64::try_from(right.clone())?)))
}

/// The inside of a tag, with calls in place of these operators.
pub(super) fn rewritten(inside: &str, is_block: bool) -> String {
    let tokens = slices::with_methods(tokens(inside));
    let is_changed = |token: &Token<'_>| matches!(token.text, "+" | "-" | "~" | "*" | "[" | "{" | "," | slices::METHOD);
    if !tokens.iter().any(is_changed) {
        return inside.to_owned();
    }
    let head = if is_block { head(&tokens) } else { 0 };
    let mut text: String = tokens.iter().take(head).map(Token::with_space).collect();
    let mut rest = tokens.get(head..).unwrap_or_default().iter().peekable();
    while rest.peek().is_some() {
        write_expressions(&mut text, &mut rest);
        // A bracket that closes nothing: the engine will say so.
        text.extend(rest.next().map(Token::with_space));
    }
    text
}

/// How many words at the start of a block are no expressions: its name, and the names that it sets.
fn head(tokens: &[Token<'_>]) -> usize {
    let Some(name) = tokens.first().filter(|name| name.is_word()) else { return 0 };
    let (end, open) = match name.text {
        "for" => ("in", 0),
        "set" => ("=", 0),
        "call" if tokens.get(1).is_some_and(|token| token.text == "(") => (")", 1),
        _ => return 1,
    };
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        if depth == open && token.text == end {
            return index + 1;
        }
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    1
}

/// What is printed, as terms that are printed one after another: so a long text is not copied to put something before and after
/// it. A sum with `+` has such terms if one of them is a text, so that all must be.
pub(super) fn printed(inside: &str) -> Vec<String> {
    let tokens = tokens(inside);
    let (mut depth, mut signs, mut previous) = (0_usize, Vec::new(), "(");
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "+" | "-" | "~" if depth == 0 && ends_operand(previous) => signs.push((index, token.text)),
            word if depth == 0 && (ends_sum(word) || word == "is") => return vec![rewritten(inside, false)],
            _ => {}
        }
        previous = token.text;
    }
    let sign = if signs.iter().any(|(_, sign)| *sign != "~") { "+" } else { "~" };
    let ends = signs.iter().filter(|(_, of)| *of == sign).map(|(index, _)| *index).chain([tokens.len()]);
    let mut start = 0;
    let terms: Vec<&[Token<'_>]> =
        ends.map(|end| tokens.get(std::mem::replace(&mut start, end + 1)..end).unwrap_or_default()).collect();
    let is_text = |term: &&[Token<'_>]| matches!(term, [token] if token.text.starts_with(['"', '\'']));
    let is_sum_of_texts = terms.iter().any(is_text) && signs.iter().all(|(_, sign)| *sign != "-");
    if terms.len() < 2 || terms.iter().any(|term| term.is_empty()) || (sign == "+" && !is_sum_of_texts) {
        return vec![rewritten(inside, false)];
    }
    let printed = |term: &&[Token<'_>]| {
        let source: String = term.iter().map(Token::with_space).collect();
        let source = rewritten(&source, false);
        if sign == "~" || is_text(term) { source } else { format!(" ({source})|{TEXT} ") }
    };
    terms.iter().map(printed).collect()
}

type Rest<'a, 'b> = std::iter::Peekable<std::slice::Iter<'b, Token<'a>>>;

/// A sum that is being read.
#[derive(Default)]
struct Sum {
    /// Terms that are complete, each with the filter that takes the next one.
    before: Vec<(String, &'static str)>,
    term: String,
    is_product: bool,
}

impl Sum {
    /// The term that was read.
    fn take_term(&mut self) -> String {
        let term = std::mem::take(&mut self.term);
        if std::mem::take(&mut self.is_product) { format!(" (({term})|{MADE}) ") } else { term }
    }

    fn flush(&mut self, text: &mut String) {
        let term = self.take_term();
        let before = std::mem::take(&mut self.before);
        if before.is_empty() {
            text.push_str(&term);
            return;
        }
        // Each sum is in two pairs of parentheses, and each of its terms, which `~` joins, in one: so precedence stays.
        text.push_str(" ((");
        for (term, filter) in before {
            text.push_str(&term);
            text.push_str(if filter == CONCATENATE { ")|" } else { "))|" });
            text.push_str(filter);
            text.push_str(if filter == CONCATENATE { "(" } else { "((" });
        }
        text.push_str(&term);
        text.push_str(")) ");
    }
}

/// What stands between two brackets.
struct Inside {
    has_comma: bool,
    /// Whether it has only texts and numbers: such a list is made once.
    is_constant: bool,
}

/// Writes expressions up to the bracket that closes them.
fn write_expressions(text: &mut String, rest: &mut Rest<'_, '_>) -> Inside {
    let mut sum = Sum::default();
    let mut inside = Inside { has_comma: false, is_constant: true };
    // The word before, after which a sign is no operator and `not` belongs to a test.
    let mut previous = "(";
    while let Some(token) = rest.peek() {
        let token = *token;
        if matches!(token.text, ")" | "]" | "}") {
            break;
        }
        rest.next();
        let is_operand_before = ends_operand(previous);
        let is_of_test = matches!(previous, "is" | "is not") && matches!(token.text, "not" | "in");
        let filter = match token.text {
            "+" => Some(ADD),
            "-" => Some(SUBTRACT),
            "~" => Some(CONCATENATE),
            _ => None,
        };
        inside.has_comma |= token.text == ",";
        inside.is_constant &= is_constant(token.text);
        match (filter, token.text) {
            (Some(filter), _) if is_operand_before => {
                let term = sum.take_term();
                sum.before.push((term, filter));
            }
            (_, open @ ("(" | "[" | "{")) => {
                let mut items = token.with_space();
                let found = write_expressions(&mut items, rest);
                if let Some(close) = rest.next() {
                    items.push_str(&close.with_space());
                    previous = close.text;
                }
                let is_list = !is_operand_before && (open != "(" || found.has_comma) && !found.is_constant;
                sum.term.push_str(&if is_list { format!(" ({items}|{KEPT}) ") } else { items });
                continue;
            }
            (None, word) if ends_sum(word) && !is_of_test => {
                sum.flush(text);
                text.push_str(&token.with_space());
            }
            _ => {
                sum.is_product |= token.text == "*" && is_operand_before;
                sum.term.push_str(&token.with_space());
            }
        }
        previous = if previous == "is" && token.text == "not" { "is not" } else { token.text };
    }
    sum.flush(text);
    inside
}

fn is_constant(token: &str) -> bool {
    token.is_empty() || token.starts_with(|first: char| matches!(first, ',' | ':' | '"' | '\'' | '0'..='9'))
}

#[cfg(test)]
mod tests {
    use super::rewritten;

    #[test]
    fn sums_become_calls() {
        for (expression, expected) in [
            ("a", "a"),
            ("-1", "-1"),
            ("a + b", "((a))|A((b))"),
            ("a - b + c", "((a))|S((b))|A((c))"),
            ("a ~ b ~ c", "((a)|C(b)|C(c))"),
            ("a + b ~ c * -d", "((a))|A((b)|C(((c*-d)|M)))"),
            ("f(x + 1, y=a[i-1]) == -2", "f(((x))|A((1)),y=a[((i))|S((1))])==-2"),
            ("not a + b in c", "not((a))|A((b))inc"),
            ("a is not none and x is in [1 + 2]", "aisnotnoneandxisin([((1))|A((2))]|K)"),
            ("a * b + ('x', \"y\") * 2", "((((a*b)|M)))|A((((('x',\"y\")*2)|M)))"),
            ("(a, b)[0] in [{'a': [1]}, {}]", "((a,b)|K)[0]in([({'a':[1]}|K),{}]|K)"),
            ("a + 'x + y'|f if b else -c", "((a))|A(('x + y'|f))ifbelse-c"),
            ("1e-5 - 2.5", "((1e-5))|S((2.5))"),
            ("{'a': b + c}", "({'a':((b))|A((c))}|K)"),
        ] {
            let text = rewritten(expression, false);
            let text = text
                .replace("__tinkex_add", "A")
                .replace("__tinkex_subtract", "S")
                .replace("__tinkex_made", "M")
                .replace("__tinkex_kept", "K")
                .replace("__tinkex_concatenate", "C");
            let without_spaces = |text: &str| text.replace(' ', "");
            assert_eq!(without_spaces(&text), without_spaces(expected), "{expression}");
        }
    }

    #[test]
    fn names_of_blocks_are_no_operands() {
        assert_eq!(rewritten("set x = a + b", true).replace(' ', ""), "setx=((a))|__tinkex_add((b))");
        assert_eq!(rewritten("for a, (b, c) in [a]", true).replace(' ', ""), "fora,(b,c)in([a]|__tinkex_kept)");
        assert_eq!(rewritten("call(a, b) f([a])", true).replace(' ', ""), "call(a,b)f(([a]|__tinkex_kept))");
        assert_eq!(rewritten("if -a + b", true).replace(' ', ""), "if((-a))|__tinkex_add((b))");
    }
}
