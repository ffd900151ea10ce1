//! Compiles `proto/` with protox: no `protoc` on the machine is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files =
        ["proto/undercurrent/v1/event.proto", "proto/undercurrent/v1/log.proto", "proto/undercurrent/v1/hub.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new()
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .compile_fds(descriptors)?;
    Ok(())
}
