use super::*;

fn refused(root: &Path) -> String {
    DataDir::open(root).unwrap_err().to_string()
}

#[test]
fn a_new_directory_gets_its_parts_and_keeps_them() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("deep/data");
    let first = DataDir::open(&root).unwrap();
    let second = DataDir::open(&root).unwrap();
    assert_eq!(first.digest_key().secret, second.digest_key().secret);
    assert_eq!(first.digest_key().id, second.digest_key().id);
    assert_ne!(first.digest_key().id, DigestKey::REPLAY.id);
    let token = std::fs::read_to_string(root.join("admin.token")).unwrap();
    assert!(second.admin_token().matches(token.trim()));
    assert!(!second.admin_token().matches(""));
    assert!(!second.admin_token().matches(&token.trim()[1..]));
    assert_eq!(format!("{:?}", second.admin_token()), "AdminToken(..)");
    assert!(first.log_dir().is_dir() && first.history_dir().is_dir() && first.state_dir().is_dir());
    assert_eq!(std::fs::read_to_string(root.join("VERSION")).unwrap(), "1\n");
    let hidden = std::fs::read_dir(&root)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0, "unfinished files are removed");
}

// Goal: five wraps started at once by one client agree on one key.
#[test]
fn processes_that_open_at_once_agree() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("data");
    let keys: Vec<_> = std::thread::scope(|scope| {
        let open = || DataDir::open(&root).unwrap().digest_key().secret;
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn other_layouts_and_other_directories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.doc"), "").unwrap();
    assert!(refused(dir.path()).contains("holds other files (thesis.doc)"));
    std::fs::write(dir.path().join("VERSION"), "2\n").unwrap();
    assert!(refused(dir.path()).contains("has layout 2, this program knows up to 1"));
    std::fs::write(dir.path().join("VERSION"), "two").unwrap();
    assert!(refused(dir.path()).contains("not a layout number"));
}

#[test]
fn a_rotated_key_leaves_the_old_one_readable() {
    let dir = tempfile::tempdir().unwrap();
    let old = DataDir::open(dir.path()).unwrap().digest_key().clone();
    let rotated = DataDir::open(dir.path()).unwrap().rotate_digest_key().unwrap();
    assert_ne!(rotated.digest_key().secret, old.secret);
    let again = DataDir::open(dir.path()).unwrap();
    assert_eq!(again.digest_key().id, rotated.digest_key().id);
    assert_eq!(again.digest_keys().iter().map(|key| key.id).collect::<Vec<_>>(), [old.id, rotated.digest_key().id]);
}

#[test]
fn damaged_secrets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    DataDir::open(dir.path()).unwrap();
    for (file, text) in [("digest.key", ""), ("digest.key", "0 00"), ("digest.key", "1 zz"), ("admin.token", "")] {
        let path = dir.path().join(file);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        assert!(refused(dir.path()).contains("not in the form"), "{file} {text:?}");
        std::fs::write(&path, good).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn everything_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("data");
    DataDir::open(&root).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    for file in ["VERSION", "digest.key", "admin.token"] {
        assert_eq!(mode(&root.join(file)), 0o600, "{file}");
    }
    let token = root.join("admin.token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&root).contains("can be read by other users"));
}
