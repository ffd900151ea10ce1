//! Compiles `proto/` with protox: no `protoc` on the machine is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["event", "log", "hub"].map(|name| format!("proto/undercurrent/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new()
        // Events are moved from queue to queue: only a pointer should be.
        .boxed(".undercurrent.v1.Event.body.message")
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .compile_fds(descriptors)?;
    Ok(())
}
