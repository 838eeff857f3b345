//! Compiles every `.proto` file beside this script, without protoc, so that the Rust code can never drift from them.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message;
use tonic_prost_build::Config;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=catalyst");

    let mut files = Vec::new();
    collect_files(Path::new("catalyst"), &mut files)?;
    files.sort();
    let contract = protox::compile(files, ["."])?;

    // Comments become documentation of the Rust code; server reflection does not serve them.
    let mut descriptors = contract.clone();
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptor.bin"), descriptors.encode_to_vec())?;

    // `prost::Name` gives each message its full name, which is the type of an event on the bus.
    let mut config = Config::new();
    config.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(contract, config)?;
    Ok(())
}

/// Adds the `.proto` files of `folder` and of the folders in it.
fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_files(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    Ok(())
}
