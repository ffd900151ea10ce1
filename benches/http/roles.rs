//! The servers, each a process: this same program under another role, or `undercurrent serve`.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::watch;
use undercurrent::clock::EventClock;
use undercurrent::config::{Aggregate, Payload};
use undercurrent::edge::{Edge, EdgeSettings};
use undercurrent::gateway::{Gateway, GatewayConfig, GatewayMetrics, serve};
use undercurrent::log::{EventLog, LogFull};
use undercurrent::policy::Policy;
use undercurrent::telemetry::EdgeMetrics;
use undercurrent_dataflows::assess::LeftOut;
use undercurrent_dataflows::facts::{DigestKey, Limits};
use undercurrent_dataflows::model::ModelSlot;
use undercurrent_schemas::ids::Sequence;
use undercurrent_schemas::v1;

const ROLE: &str = "--role";

/// A server process; ends when it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Where it says how it is doing, if it does.
    pub(crate) admin: Option<SocketAddr>,
    _data: Option<tempfile::TempDir>,
}

impl Process {
    /// This program again, in another role. It prints where it listens.
    pub(crate) fn role(role: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ROLE).arg(role).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {role}"))?;
        let stdout = child.stdout.take().context("take its output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("read where {role} listens"))?;
        Ok(Self { child, address, admin: None, _data: None })
    }

    /// The real thing, learning on, as it was built beside this benchmark.
    pub(crate) fn undercurrent(upstream: &str) -> Result<Self> {
        let program = binary()?;
        let data = tempfile::tempdir()?;
        let (address, admin) = (free()?, free()?);
        let child = Command::new(&program)
            .arg("serve")
            .args(["--upstream", &format!("bench={upstream}")])
            .args(["--listen", &address.to_string(), "--admin", &admin.to_string()])
            .arg("--data")
            .arg(data.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut process = Self { child, address, admin: Some(admin), _data: Some(data) };
        process.wait_until_up()?;
        Ok(process)
    }

    /// crates.io's `mcp-proxy`, as its README starts it.
    pub(crate) fn mcp_proxy(program: &Path, upstream: &str) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let address = free()?;
        let config = data.path().join("proxy.toml");
        let port = address.port();
        std::fs::write(
            &config,
            format!(
                "[proxy]\nname = \"bench\"\nseparator = \"/\"\n\n[proxy.listen]\nhost = \"127.0.0.1\"\nport = {port}\n\n\
                 [[backends]]\nname = \"bench\"\ntransport = \"http\"\nurl = \"{upstream}\"\n\n\
                 [observability]\nlog_level = \"error\"\n"
            ),
        )?;
        let mut command = Command::new(program);
        let child = command.arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("start {}", program.display()))?;
        let mut process = Self { child, address, admin: None, _data: Some(data) };
        process.wait_until_up()?;
        Ok(process)
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once: {status}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("it does not listen")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `target/release/undercurrent` for `target/release/deps/http-…`.
fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().and_then(|deps| deps.parent()).context("find the build directory")?;
    let path = directory.join(format!("undercurrent{}", std::env::consts::EXE_SUFFIX));
    if path.exists() { Ok(path) } else { bail!("{} is not built", path.display()) }
}

fn free() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The role that this process was started in, and its argument.
pub(crate) fn asked() -> Option<Vec<String>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    (arguments.first()? == ROLE).then(|| arguments[1..].to_vec())
}

pub(crate) fn play(role: Vec<String>) -> Result<()> {
    let mut role = role.into_iter();
    let name = role.next().context("no role given")?;
    let upstream = role.next().unwrap_or_default();
    let single = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match name.as_str() {
        "echo" => single()?.block_on(listen(|request| async move { Ok::<_, Infallible>(echo(request).await) })),
        "bare" => single()?.block_on(bare(&upstream)),
        "gateway" => single()?.block_on(gateway(&upstream)),
        "gateway-aggregate" => single()?.block_on(aggregated(&upstream)),
        "gateway-threads" => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(gateway(&upstream))
        }
        other => bail!("no role {other}"),
    }
}

async fn bind() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}

async fn listen<S, F, B, E>(service: S) -> Result<()>
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = bind().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            // Load connections end whenever their round does.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(service)).await;
        });
    }
}

/// What every request has.
#[derive(serde::Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
}

/// The smallest MCP server: answers `tools/call` with the text it was given.
async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    #[derive(serde::Deserialize)]
    struct Call<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
        #[serde(borrow)]
        params: Params<'a>,
    }
    #[derive(serde::Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        arguments: Arguments<'a>,
    }
    #[derive(serde::Deserialize)]
    struct Arguments<'a> {
        #[serde(borrow)]
        text: &'a RawValue,
    }
    if request.method() == Method::DELETE {
        return Response::new(Full::default());
    }
    if request.method() == Method::GET {
        return with_status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if memchr::memmem::find(&body, b"\"initialize\"").is_some() {
        return initialized(&body);
    }
    if memchr::memmem::find(&body, b"\"notifications/").is_some() {
        return with_status(StatusCode::ACCEPTED);
    }
    if memchr::memmem::find(&body, b"\"tools/list\"").is_some() {
        return listed(&body);
    }
    let Ok(call) = serde_json::from_slice::<Call<'_>>(&body) else { return unknown(&body) };
    let (id, text) = (call.id.get(), call.params.arguments.text.get());
    let answer = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":{text}}}],"isError":false}}}}"#
    );
    json(answer)
}

/// A session of its own for whoever asks.
fn initialized(body: &[u8]) -> Response<Full<Bytes>> {
    let Ok(Asked { id }) = serde_json::from_slice(body) else { return with_status(StatusCode::BAD_REQUEST) };
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let result =
        r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"e","version":"1"}}"#;
    let mut response = json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
    response.headers_mut().insert("mcp-session-id", NEXT.fetch_add(1, Ordering::Relaxed).into());
    response
}

/// A server has tools and nothing else, and says so in the protocol's words: some clients (`mcp-proxy`'s) ask for
/// prompts and resources first, and take an HTTP error for the end of the connection.
fn unknown(body: &[u8]) -> Response<Full<Bytes>> {
    let Ok(Asked { id }) = serde_json::from_slice(body) else { return with_status(StatusCode::BAD_REQUEST) };
    json(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"Method not found"}}}}"#))
}

/// The one tool, for whoever asks.
fn listed(body: &[u8]) -> Response<Full<Bytes>> {
    let Ok(Asked { id }) = serde_json::from_slice(body) else { return with_status(StatusCode::BAD_REQUEST) };
    let schema = r#"{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}"#;
    let tools = format!(r#"[{{"name":"echo","description":"Says it again.","inputSchema":{schema}}}]"#);
    json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":{tools}}}}}"#))
}

fn json(body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn with_status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// The reference: a hyper server in front of hyper-util's pooled client, and nothing else.
async fn bare(upstream: &str) -> Result<()> {
    let upstream: Uri = upstream.parse()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    listen(move |mut request: Request<Incoming>| {
        *request.uri_mut() = upstream.clone();
        client.request(request)
    })
    .await
}

async fn gateway(upstream: &str) -> Result<()> {
    serve_with(upstream, None).await
}

/// The same with an endpoint of all upstreams, of which there is one.
async fn aggregated(upstream: &str) -> Result<()> {
    serve_with(upstream, Some(Aggregate::default())).await
}

async fn serve_with(upstream: &str, aggregate: Option<Aggregate>) -> Result<()> {
    let upstreams = vec![format!("bench={upstream}").parse()?];
    let config = GatewayConfig { upstreams, aggregate, ..GatewayConfig::default() };
    let metrics = GatewayMetrics::register(&prometheus::Registry::new())?;
    let gateway = Gateway::new(config, edge()?, metrics)?;
    serve(bind().await?, gateway, std::future::pending()).await;
    Ok(())
}

/// The hop and its facts alone: what the edge says goes nowhere.
#[derive(Debug)]
struct NoLog;

impl EventLog for NoLog {
    fn append(&self, _event: v1::Event) -> std::result::Result<Sequence, LogFull> {
        Ok(Sequence(0))
    }

    fn durable(&self) -> watch::Receiver<Sequence> {
        watch::channel(Sequence(0)).1
    }
}

fn edge() -> Result<Edge> {
    let settings = EdgeSettings {
        tenant: "default".into(),
        key: DigestKey::REPLAY,
        limits: Limits::default(),
        provenance_bytes_max: 256 << 20,
        sessions_max: 100_000,
        session_idle: Duration::from_secs(300),
        payload: Payload::None,
        left_out: LeftOut::default(),
    };
    let metrics = Arc::new(EdgeMetrics::register(&prometheus::Registry::new())?);
    let clock = Arc::new(EventClock::default());
    Ok(Edge::new(settings, Policy::default(), Arc::new(NoLog), ModelSlot::default(), clock, metrics, None))
}
