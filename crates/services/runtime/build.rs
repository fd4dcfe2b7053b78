//! Generates the gRPC types from `api/proto`, without `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use protox::Compiler;

const PROTO: &str = "../../../api/proto/open_inference.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let mut compiler = Compiler::new(["../../../api/proto"])?;
    compiler.include_imports(true).open_file(PROTO)?;
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("open_inference.binpb");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        // Raw contents become slices of the message instead of copies.
        .bytes(".")
        .btree_map(".")
        .codec_path("crate::grpc::codec::BoundedCodec")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
