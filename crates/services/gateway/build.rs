//! Compiles the protocol's file descriptors, which the gateway's reflection answers from.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTO_DIR: &str = "../../../api/proto";
const PROTO: &str = "open_inference.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_DIR}/{PROTO}");
    let descriptors = protox::compile([PROTO], [PROTO_DIR])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("open_inference.bin");
    fs::write(out, descriptors.encode_to_vec())?;
    Ok(())
}
