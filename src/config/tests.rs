use super::*;

fn sources(file: &str, env: &[(&str, &str)]) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("undercurrent.toml");
    std::fs::write(&path, file).unwrap();
    let mut env: BTreeMap<_, _> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    env.entry("UNDERCURRENT_DATA".into()).or_insert_with(|| "data".into());
    (dir, Sources { file: Some(path), env, overrides: Vec::new(), data_dir: None })
}

fn load(file: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let (dir, sources) = sources(file, env);
    let beside = format!("{}{}", dir.path().display(), std::path::MAIN_SEPARATOR);
    Config::load(sources).map_err(|error| error.to_string().replace(&beside, ""))
}

fn shipped() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/undercurrent.toml");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn defaults() {
    let mut config = load("", &[]).unwrap();
    config.engine.workers = 1; // depends on the machine
    insta::assert_debug_snapshot!(config);
}

// Goal: the shipped file can be trusted as documentation: it has every key, and its values are the defaults.
#[test]
fn the_shipped_file_lists_every_key_with_its_default() {
    let written: toml::Table = toml::from_str(&shipped()).unwrap();
    let mut defaults = keys::defaults();
    defaults.remove("upstreams");
    assert_eq!(written, defaults);
    let loaded = |text: &str| format!("{:?}", load(text, &[]).unwrap());
    assert_eq!(loaded(&shipped()), loaded(""));
}

#[test]
fn the_upstream_in_the_shipped_file_is_right() {
    let example: String = shipped()
        .lines()
        .skip_while(|line| !line.starts_with("# [upstreams"))
        .map(|l| l.trim_start_matches("# ").to_owned() + "\n")
        .collect();
    let config = load(&example, &[("GITHUB_TOKEN", "t")]).unwrap();
    assert_eq!(config.upstreams.len(), 3);
    assert_eq!(config.terms[&"github".parse().unwrap()].headers["authorization"], "Bearer t");
}

#[test]
fn an_upstream_has_the_keys_that_are_listed() {
    let text = || Some(String::new());
    let full =
        raw::RawUpstream { url: text(), command: text(), auth: text(), requests_max: Some(1), ..Default::default() };
    let table = toml::Table::try_from(full).unwrap();
    let listed: std::collections::BTreeSet<_> = keys::UPSTREAM_KEYS.into();
    assert_eq!(table.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), listed);
}

#[test]
fn every_key_can_be_overridden_by_the_environment() {
    let set = toml::Table::from_iter(keys::defaults());
    for (section, inner) in set.iter().filter(|(section, _)| *section != "upstreams") {
        for (key, default) in inner.as_table().unwrap() {
            let name = format!("UNDERCURRENT__{}__{}", section.to_uppercase(), key.to_uppercase());
            let mut layers = layers::Layers::default();
            let text = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            layers.read_env(&BTreeMap::from([(name.clone(), text)])).unwrap();
            assert_eq!(layers.finish().1.of(&format!("{section}.{key}")), Place::Env(name));
        }
    }
}

#[test]
fn later_places_win() {
    let file = "[engine]\nworkers = 2\nlateness_s = 7\n[upstreams.my-files]\ncommand = \"a\"\nenv = { X = \"1\" }";
    let env = [
        ("UNDERCURRENT__ENGINE__WORKERS", "3"),
        ("UNDERCURRENT__GATEWAY__ALLOWED_HOSTS", "a.example, b.example:1"),
        ("UNDERCURRENT__UPSTREAMS__MY_FILES__ARGS", "-y 'b c'"),
        ("UNDERCURRENT__UPSTREAMS__MY_FILES__ENV__Token", "2"),
        ("UNDERCURRENT__UPSTREAMS__OTHER__URL", "http://127.0.0.1:1/mcp"),
    ];
    let (_dir, mut sources) = sources(file, &env);
    sources.overrides = vec![upstream_from_flag("other=run it").unwrap()];
    sources.data_dir = Some("elsewhere".into());
    let config = Config::load(sources).unwrap();
    assert_eq!(config.engine.workers, 3);
    assert_eq!(config.engine.lateness, Duration::from_secs(7));
    assert!(config.gateway.hosts.allows_host("b.example:1") && !config.gateway.hosts.allows_host("b.example"));
    assert_eq!(config.data_dir, PathBuf::from("elsewhere"));
    let env = Environment([("X", "1"), ("Token", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let args = vec!["-y".into(), "b c".into()];
    let files = Upstream::Command { program: "a".into(), args, env };
    assert_eq!(config.upstreams[&"my-files".parse().unwrap()], files);
    let other = &config.upstreams[&"other".parse().unwrap()];
    assert_eq!(other.summary(), "run");
}

// Goal: whoever made the mistake can mend it from the message alone.
#[test]
fn mistakes_are_named_with_place_key_value_and_remedy() {
    let files = [
        "[gateway]\nbody_byte_max = 1",
        "[gatewya]\nbody_bytes_max = 1",
        "[upstreams.a]\nurll = \"http://x\"",
        "[gateway]\n\n  connections_max = \"many\"",
        "[gateway]\nconnections_max = 0",
        "[gateway]\nconnections_max = -1",
        "gateway = 3",
        "[gateway]\nallowed_hosts = [\"http://x\"]",
        "[gateway]\ntrusted_proxies = [\"10.0.0.0/99\"]",
        "[engine]\nalert_budget = 1.5",
        "[engine]\nleave_out_terms = [\"repeat\"]",
        "[capture]\npayload = \"all\"",
        "[listen]\nmcp = \"8808\"",
        "[listen]\nadmin = \"0.0.0.0:8809\"",
        "[listen]\nmcp = \"127.0.0.1:8809\"",
        "[access_log]\nqueue_lines_max = 0",
        "[tracing]\nsample_ratio = 1.5",
        "[tracing]\notlp_endpoint = \"127.0.0.1:4318\"",
        "[tracing]\notlp_endpoint = \"http://me:s3cret@x\"",
        "[upstreams.\"Über\"]\nurl = \"http://x\"",
        "[upstreams.a]",
        "[upstreams.a]\nurl = \"http://x\"\ncommand = \"y\"",
        "[upstreams.a]\nurl = \"ftp://x\"",
        "[upstreams.a]\nurl = \"http://me:s3cret@x\"",
        "[upstreams.a]\ncommand = \"x\"\nenv = { TOKEN = 777 }",
        "[aggregate]\nenabled = 1",
        "[aggregate]\nseparator = \"/\"",
        "[aggregate]\nupstreams = [\"file\"]\n[upstreams.files]\nurl = \"http://x\"",
        "[engine]\nworkers = 1\nworkers = 2",
        "[engine\n",
    ];
    let mut messages: Vec<String> = files.iter().map(|file| load(file, &[]).unwrap_err()).collect();
    let variables = [
        ("UNDERCURRENT__ENGINE__WORKER", "1"),
        ("UNDERCURRENT__ENGINE__WORKERS", "two"),
        ("UNDERCURRENT__ENGINE__WORKERS", "257"),
        ("UNDERCURRENT__UPSTREAMS__A__URL", "x"),
        ("UNDERCURRENT__UPSTREAMS__A__URLS", "http://x"),
    ];
    messages.extend(variables.iter().map(|variable| load("", &[*variable]).unwrap_err()));
    messages.push(upstream_from_flag("files").unwrap_err().to_string());
    messages.push(upstream_from_flag("files='x").unwrap_err().to_string());
    assert!(messages.iter().all(|message| !message.contains("s3cret") && !message.contains("777")));
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Sources { file: Some("nowhere.toml".into()), ..Sources::default() }).unwrap_err();
    assert!(error.to_string().starts_with("read `nowhere.toml`"), "{error}");
}

#[test]
fn a_policy_file_is_found_beside_the_config_file_that_names_it() {
    let (dir, sources) = sources("[policy]\nfile = \"policy.toml\"", &[]);
    assert_eq!(Config::load(sources).unwrap().policy_file, Some(dir.path().join("policy.toml")));
}
