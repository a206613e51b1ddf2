//! Names the shared library after the version of its interface, so that programs that were linked with another one do not load it.

fn main() {
    let header = "include/tinkex.h";
    println!("cargo:rerun-if-changed={header}");
    println!("cargo:rerun-if-changed=build.rs");
    let text = std::fs::read_to_string(header).expect("the header is in the package");
    let version = text.lines().find_map(|line| line.strip_prefix("#define TINKEX_ABI_VERSION "));
    let version: u32 = version.and_then(|version| version.trim().parse().ok()).expect("the header has a version");
    println!("cargo:rustc-env=TINKEX_ABI_VERSION={version}");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libtinkex.so.{version}");
    }
}
