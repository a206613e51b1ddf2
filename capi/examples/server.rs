//! The local server, for the programs in C and C++: prints its URL, and runs until stdin ends.

use std::io::{self, Read};

#[expect(clippy::print_stdout, reason = "whoever starts it reads the URL")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = tinkex::local::LocalServer::start()?;
    println!("{}", server.base_url());
    io::stdin().read_to_end(&mut Vec::new())?;
    server.stop();
    Ok(())
}
