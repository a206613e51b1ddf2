//! How files and tests are named.

use std::fs;
use std::path::PathBuf;

use super::rust_files;

const MAX_WORDS: usize = 8;

#[test]
fn a_module_with_files_is_a_mod_rs() {
    let files = ["src", "tests"].into_iter().flat_map(rust_files);
    let beside: Vec<PathBuf> = files.filter(|file| file.with_extension("").is_dir()).collect();
    assert!(beside.is_empty(), "x.rs beside x/: {beside:?}");
}

#[test]
fn test_names_are_short() {
    let mut long = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        let source = fs::read_to_string(&file).unwrap();
        for name in tests(&source) {
            let words: Vec<&str> = name.split('_').collect();
            if words.len() > MAX_WORDS || words.iter().filter(|word| **word == "and").count() > 1 {
                long.push(format!("{}: {name}", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "{} test names are too long:\n{}", long.len(), long.join("\n"));
}

/// The names of the functions behind `#[test]`, and of the properties in `quickcheck!`.
fn tests(source: &str) -> Vec<&str> {
    let (mut names, mut is_test, mut in_quickcheck) = (Vec::new(), false, false);
    for line in source.lines().map(str::trim_end) {
        let code = line.trim_start();
        match code {
            "#[test]" => is_test = true,
            "quickcheck! {" => in_quickcheck = true,
            "}" if line.len() - code.len() <= 4 && !code.contains("fn") => {
                in_quickcheck &= line.starts_with("        ")
            }
            _ => {}
        }
        if let Some(rest) = code.strip_prefix("fn ") {
            if std::mem::take(&mut is_test) || (in_quickcheck && line.starts_with("        fn ")) {
                names.push(rest.split(['(', '<']).next().unwrap());
            }
        }
    }
    names
}

#[test]
fn tests_and_properties_are_found() {
    let source = "#[test]\nfn a() {\n}\nfn b() {}\n    quickcheck! {\n        fn c(d: u8) -> bool {\n            true\n        }\n    }\n        fn e() {}\n";
    assert_eq!(tests(source), ["a", "c"]);
}
