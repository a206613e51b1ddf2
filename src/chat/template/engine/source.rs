//! The source of a template, as the engine wants it.

use super::operators;
use super::scan::{quoted_length, tokens};
use super::text::Text;

/// The source with line breaks as jinja2 has them, and with blocks of `generation`, which mark what an assistant says, as blocks that
/// the engine knows and that hide their variables, as those do. If `limited` is set, operators have limits, and the text between tags
/// is printed.
pub(super) fn prepared(source: &str, limited: bool) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut text = String::with_capacity(source.len());
    let mut between = Text::at_start();
    // The engine leaves out a line break at the end.
    let mut rest = if limited { source.strip_suffix('\n').unwrap_or(&source) } else { source.as_str() };
    let mut is_raw = false;
    while let Some(start) = rest.find('{') {
        let (before, from_tag) = rest.split_at(start);
        between.push(before);
        // Inside `raw`, only the tag that ends it counts.
        let is_text = is_raw && !from_tag.starts_with("{%");
        let (tag, after) = from_tag.split_at(if is_text { 1 } else { tag_length(from_tag) });
        let name = tag_name(tag);
        if tag.len() == 1 || (is_raw && name != Some("endraw")) {
            between.push("{");
            rest = &from_tag[1..];
            continue;
        }
        rest = after;
        is_raw = name == Some("raw");
        if !limited {
            between.end_unchanged(&mut text);
        } else if is_raw {
            between.end_at_raw(&mut text, tag);
        } else {
            between.end_at(&mut text, tag);
        }
        match name {
            Some("raw" | "endraw") if limited => {}
            // The engine leaves out a line break after this tag; jinja2 keeps it.
            Some("raw") if after.starts_with('\n') && !tag.ends_with("-%}") => {
                text.push_str(tag);
                text.push('\n');
            }
            Some("generation") => text.push_str(&tag.replacen("generation", "with", 1)),
            Some("endgeneration") => text.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            _ if limited => write_tag(&mut text, tag),
            _ => text.push_str(tag),
        }
    }
    between.push(rest);
    if limited {
        between.end(&mut text);
    } else {
        between.end_unchanged(&mut text);
    }
    text
}

/// Whether a tag of the source, other than a comment, has this name. A text in quotes has none.
#[cfg(feature = "pretrained")]
pub(in crate::chat::template) fn has_name(source: &str, name: &str) -> bool {
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let from_tag = &rest[start..];
        let (tag, after) = from_tag.split_at(tag_length(from_tag));
        if !tag.starts_with("{#") && tokens(tag).iter().any(|token| token.is_word() && token.text == name) {
            return true;
        }
        rest = after;
    }
    false
}

/// How many bytes the tag, print or comment has that begins here; 1 if none begins.
fn tag_length(text: &str) -> usize {
    let end = match text.as_bytes().get(1) {
        Some(b'#') => return text.find("#}").map_or(text.len(), |end| end + 2),
        Some(b'%') => "%}",
        Some(b'{') => "}}",
        _ => return 1,
    };
    let (mut index, mut depth) = (2, 0_usize);
    while let Some(character) = text.get(index..).and_then(|rest| rest.chars().next()) {
        let rest = &text[index..];
        match character {
            '"' | '\'' => {
                index += quoted_length(rest, character);
                continue;
            }
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            _ if rest.starts_with(end) => return index + 2,
            _ => {}
        }
        index += character.len_utf8();
    }
    text.len()
}

/// How many words a template may have in one expression, and branches in one `if`: more would fill the stack of the engine's parser.
/// Real templates have at most 60 branches.
const MAX_CHAIN: usize = 500;

/// Whether the parser can take the source without filling the stack of a thread.
pub(super) fn is_shallow(source: &str) -> bool {
    let mut rest = source;
    let mut branches = 0;
    while let Some(start) = rest.find('{') {
        let from_tag = &rest[start..];
        let (tag, after) = from_tag.split_at(tag_length(from_tag));
        branches += usize::from(tag_name(tag) == Some("elif"));
        if branches > MAX_CHAIN || (!tag.starts_with("{#") && longest_chain(tag) > MAX_CHAIN) {
            return false;
        }
        rest = after;
    }
    true
}

/// The most words between two commas of a tag.
fn longest_chain(tag: &str) -> usize {
    let tokens = tokens(tag);
    tokens.split(|token| matches!(token.text, "," | ":")).map(<[_]>::len).max().unwrap_or_default()
}

/// Writes a tag or print with sums that have limits.
fn write_tag(text: &mut String, tag: &str) {
    let is_block = tag.starts_with("{%");
    let inside = if is_block { tag.strip_prefix("{%").and_then(|tag| tag.strip_suffix("%}")) } else { None };
    let inside = inside.or_else(|| tag.strip_prefix("{{").and_then(|tag| tag.strip_suffix("}}")));
    let Some(inside) = inside else { return text.push_str(tag) };
    let open = usize::from(inside.starts_with(['-', '+']));
    let close = if inside.len() > open { usize::from(inside.ends_with(['-', '+'])) } else { 0 };
    let end = inside.len() - close;
    text.push_str(&tag[..2 + open]);
    let inner = &inside[open..end];
    match is_block {
        true => text.push_str(&operators::rewritten(inner, true)),
        false => text.push_str(&operators::printed(inner).join(" }}{{ ")),
    }
    text.push_str(&tag[2 + end..]);
}

/// The name of a block tag.
fn tag_name(tag: &str) -> Option<&str> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    inner.trim_start_matches(['-', '+']).split_whitespace().next().map(|name| name.trim_end_matches(['-', '+']))
}

#[cfg(test)]
mod tests {
    use super::prepared;

    #[test]
    fn generation_becomes_a_known_block() {
        for (source, expected) in [
            ("{%- generation -%}x{%- endgeneration -%}", "{%- with -%}x{%- endwith -%}"),
            (
                "{% generation %}{{ '{% generation %}' }}{% endgeneration %}",
                "{% with %}{{ '{% generation %}' }}{% endwith %}",
            ),
            ("{# {% generation %} #}a\r\nb", "{# {% generation %} #}a\nb"),
            ("{% raw %}{{ {% generation %}{% endraw %}", "{% raw %}{{ {% generation %}{% endraw %}"),
            ("{{ {'a': {}} }}{%generation%}", "{{ {'a': {}} }}{%with%}"),
            ("{ {{ \"it's %}\" }}", "{ {{ \"it's %}\" }}"),
            ("a {", "a {"),
        ] {
            assert_eq!(prepared(source, false), expected);
        }
    }

    #[test]
    fn text_becomes_prints() {
        for (source, expected) in [
            ("a {", "{{'a {'}}"),
            ("{% raw %}{{ {% generation %}{% endraw %}", "{{'{{ {% generation %}'}}"),
            ("{% raw -%}\n a\n {%- endraw %}\nb\n", "{{\n\n'a'}}{{\n'b'}}"),
            ("a\n  {% if b %}\n  c  {{- d }}", "{{'a\n'}}{% if b %}{{\n'  c'}}{{- d }}"),
            ("{{ a }}\n  {%+ endif -%}  e", "{{ a }}{{'\n  '}}{%+ endif -%}{{'e'}}"),
            ("  {% if b %} {# c #}\n{% endif %}", "{% if b %}{{' '}}{# c #}{#\n#}{% endif %}"),
            ("  {{ a }}  {% if b +%}\nc", "{{'  '}}{{ a }}{{'  '}}{% if b +%}{{'\nc'}}"),
        ] {
            assert_eq!(prepared(source, true), expected.replace('\'', "\""), "{source}");
        }
        assert_eq!(prepared(r#"a "b" \n"#, true), r#"{{"a \"b\" \\n"}}"#);
    }

    #[test]
    fn white_space_control_stays() {
        for source in ["{{- 'a' -}}", "{%- if a -%}{%+ endif +%}", "{{-}}", "{{ -1 }}", "{%- set a = -1 -%}"] {
            assert_eq!(prepared(source, true), source);
        }
        assert_eq!(prepared("{{- a + b -}}", true).replace(' ', ""), "{{-((a))|__tinkex_add((b))-}}");
    }

    #[test]
    fn sums_of_texts_are_printed_in_parts() {
        for (source, expected) in [
            ("{{- 'a' + b.c -}}", "{{-'a'}}{{(b.c)|__tinkex_text-}}"),
            ("{{ a ~ (b if c else d) | trim ~ -1 }}", "{{a}}{{(bifcelsed)|trim}}{{-1}}"),
            ("{{ 'a' + b ~ c }}", "{{'a'}}{{(((b)|__tinkex_concatenate(c)))|__tinkex_text}}"),
            ("{{ 'a' + b - c }}", "{{(('a'))|__tinkex_add((b))|__tinkex_subtract((c))}}"),
            ("{{ 'a' ~ b if c }}", "{{(('a')|__tinkex_concatenate(b))ifc}}"),
            ("{{ 'a' ~ b == c }}", "{{(('a')|__tinkex_concatenate(b))==c}}"),
            ("{% set a = 'b' ~ c %}", "{%seta=(('b')|__tinkex_concatenate(c))%}"),
        ] {
            assert_eq!(prepared(source, true).replace(' ', ""), expected);
        }
    }
}
