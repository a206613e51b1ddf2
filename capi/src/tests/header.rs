//! The header declares exactly the functions that the library exports, with the same types, and the tests in C call each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The names of types here and in the header.
const TYPES: [(&str, &str); 21] = [
    ("Service", "tinkex_service"),
    ("Trainer", "tinkex_trainer"),
    ("Sampler", "tinkex_sampler"),
    ("Batch", "tinkex_batch"),
    ("Pending", "tinkex_pending"),
    ("Outcome", "tinkex_result"),
    ("Tokenizer", "tinkex_tokenizer"),
    ("Error", "tinkex_error"),
    ("Status", "tinkex_status"),
    ("LossCall", "tinkex_loss_call"),
    ("LossFunction", "tinkex_loss_function"),
    ("LogFunction", "tinkex_log_function"),
    ("c_char", "char"),
    ("c_void", "void"),
    ("f32", "float"),
    ("f64", "double"),
    ("usize", "size_t"),
    ("i32", "int32_t"),
    ("i64", "int64_t"),
    ("u32", "uint32_t"),
    ("u8", "uint8_t"),
];

/// A type in the words of the header, without blanks: `*mut *const f32` is `constfloat**`.
fn in_c(rust: &str) -> String {
    let rust = rust.trim();
    if let Some(target) = rust.strip_prefix("*const ") {
        return format!("const{}*", in_c(target));
    }
    if let Some(target) = rust.strip_prefix("*mut ") {
        return format!("{}*", in_c(target));
    }
    let known = TYPES.iter().find(|(here, _)| *here == rust);
    known.map_or_else(|| panic!("unknown type {rust}"), |(_, there)| (*there).to_owned())
}

/// Each function with the types of its parameters and its result, as in the header.
type Functions = BTreeMap<String, Vec<String>>;

fn exported() -> Functions {
    let mut functions = Functions::new();
    for entry in fs::read_dir(package("src")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for declared in text.split("extern \"C\" fn ").skip(1) {
            let (name, rest) = declared.split_once('(').unwrap();
            let (parameters, rest) = rest.split_once(')').unwrap();
            let result = rest.split('{').next().unwrap().trim().strip_prefix("->").map_or("void".to_owned(), in_c);
            if name.starts_with('$') {
                continue;
            }
            let types = parameters.split(',').filter_map(|parameter| Some(in_c(parameter.split_once(':')?.1)));
            functions.insert(name.to_owned(), types.chain([result]).collect());
        }
        for operation in text.split("\noperation! {").skip(1) {
            let (names, rest) = operation.split_once('(').unwrap();
            let parameters = rest.split_once(')').unwrap().0;
            for (name, last) in names.split_whitespace().zip(["tinkex_result**", "tinkex_pending**"]) {
                let own = parameters.split(',').filter_map(|parameter| Some(in_c(parameter.split_once(':')?.1)));
                let types = std::iter::once("tinkex_trainer*".to_owned()).chain(own);
                let ends = [last, "tinkex_error**", "tinkex_status"].map(str::to_owned);
                functions.insert(name.to_owned(), types.chain(ends).collect());
            }
        }
    }
    functions
}

/// The header without its comments and what only the preprocessor reads.
fn header() -> String {
    let text = fs::read_to_string(package("include/tinkex.h")).unwrap();
    let mut parts = text.split("/*");
    let first = parts.next().unwrap().to_owned();
    let code = parts.fold(first, |code, part| code + part.split_once("*/").unwrap().1);
    let is_code = |line: &&str| !line.starts_with('#') && !line.starts_with("extern \"C\"");
    code.lines().filter(is_code).map(|line| format!("{line}\n")).collect()
}

fn declared() -> Functions {
    let header = header();
    // A type in the header's words; a parameter loses its name.
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    let of_parameter = |parameter: &str| squeeze(parameter.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_'));
    header
        .split(';')
        .filter(|statement| !statement.contains("typedef") && !statement.contains('{'))
        .filter_map(|statement| {
            let (head, parameters) = statement.trim().trim_end_matches(')').rsplit_once('(')?;
            let start = head.rfind("tinkex_")?;
            let (result, name) = head.split_at(start);
            let result = squeeze(result.lines().last()?);
            let parameters = parameters.split(',').filter(|parameter| *parameter != "void").map(of_parameter);
            Some((name.to_owned(), parameters.chain([result]).collect()))
        })
        .collect()
}

#[test]
fn the_header_declares_what_is_exported() {
    let (declared, exported) = (declared(), exported());
    assert!(declared.len() > 60, "{}", declared.len());
    for (name, types) in &declared {
        assert_eq!(exported.get(name), Some(types), "{name}");
    }
    let undeclared: Vec<_> = exported.keys().filter(|name| !declared.contains_key(*name)).collect();
    assert!(undeclared.is_empty(), "{undeclared:?}");
}

#[test]
fn the_program_in_c_calls_every_function() {
    let program = fs::read_to_string(package("tests/every_function.c")).unwrap();
    let missing: Vec<_> = declared().into_keys().filter(|name| !program.contains(&format!("{name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_loss_call_has_the_headers_layout() {
    let header = header();
    let fields = header.split_once("typedef struct tinkex_loss_call {").unwrap().1.split_once('}').unwrap().0;
    let names: Vec<&str> = fields.split(';').filter_map(|field| field.trim().rsplit([' ', '*']).next()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    assert_eq!(names, ["count", "lengths", "logprobs", "gradients", "loss", "reserved"]);
    let source = fs::read_to_string(package("src/custom_loss.rs")).unwrap();
    let fields = source.split_once("pub struct LossCall {").unwrap().1.split_once('}').unwrap().0;
    let here: Vec<&str> = fields.lines().filter_map(|line| line.trim().split_once(':')).map(|(name, _)| name).collect();
    assert_eq!(here, ["pub count", "pub lengths", "pub logprobs", "pub gradients", "pub loss", "metrics"]);
}
