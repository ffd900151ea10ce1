//! `wrap` with pipes in memory on the client's side and small shell scripts on the other.

use tokio::io::AsyncReadExt;

use super::*;

/// Runs `script` with `input`, and returns what the client saw and the exit code.
async fn wrapped(script: &str, input: &'static [u8]) -> (Vec<u8>, ExitCode) {
    let command =
        StdioCommand { program: "sh".into(), args: vec!["-c".into(), script.into()], ..StdioCommand::default() };
    let mut child = process::start(&command, Standing::Foreground).unwrap();
    let session = session(&crate::edge::testing::edge().0, "test").unwrap();
    let (near, mut far) = tokio::io::duplex(64);
    let read = tokio::spawn(async move {
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        seen
    });
    let status = relay(&mut child, input, near, &session).await.unwrap();
    (read.await.unwrap(), exit_code(status))
}

#[tokio::test]
async fn bytes_pass_as_they_are() {
    let input = b"{\"id\" : 1,\t\"method\":\"x\"}\r\n\nnonsense\n{\"last\":\"no line end\"}";
    let (seen, code) = wrapped("cat", input).await;
    assert_eq!(seen, input);
    assert_eq!(code, ExitCode::SUCCESS);
}

#[tokio::test]
async fn the_exit_code_is_the_commands() {
    assert_eq!(wrapped("read line; exit 42", b"{}\n").await.1, ExitCode::from(42));
    assert_eq!(wrapped("kill -9 $$", b"").await.1, ExitCode::from(137));
}

#[tokio::test]
async fn the_last_words_of_a_child_are_relayed() {
    let (seen, code) = wrapped("cat >/dev/null; echo bye; exit 3", b"{}\n").await;
    assert_eq!(seen, b"bye\n");
    assert_eq!(code, ExitCode::from(3));
}

#[tokio::test]
async fn a_command_that_cannot_start_is_127() {
    let command = StdioCommand { program: "./no-such-program".into(), ..StdioCommand::default() };
    assert_eq!(run(command, crate::edge::testing::edge().0, "test").await, ExitCode::from(127));
}
