//! Key files: what they protect, whom they refuse, and that OpenSSL agrees.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use peerage_identity::{Identity, KeyFileError};
use tempfile::TempDir;

fn alice() -> Identity {
    Identity::from_seed([1; 32])
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peer.key");
    (folder, path)
}

/// A file that its owner alone may read.
fn private(path: &Path, contents: &str) {
    fs::write(path, contents).unwrap();
    set_mode(path, 0o600);
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) {}

/// `None`, and a line that says so, where there is no OpenSSL.
fn openssl(arguments: &[&str], path: &Path) -> Option<std::process::Output> {
    let result = Command::new("openssl").args(arguments).arg(path).stdin(Stdio::null()).output();
    match result {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: openssl cannot be run here ({error})");
            None
        }
    }
}

#[test]
fn a_saved_identity_loads_again() {
    for passphrase in [None, Some("correct horse"), Some("påssphräse ✓")] {
        let (_folder, path) = folder();
        alice().save(&path, passphrase).unwrap();
        assert_eq!(Identity::load(&path, passphrase).unwrap().peer_id(), alice().peer_id());
    }
}

/// The seed's file as `openssl genpkey` would write it: PKCS#8 version 1, no public key.
#[test]
fn the_bytes_of_a_plain_key_file_are_pinned() {
    let (_folder, path) = folder();
    alice().save(&path, None).unwrap();
    let expected = "-----BEGIN PRIVATE KEY-----\n\
                    MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n\
                    -----END PRIVATE KEY-----\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

#[test]
fn openssl_reads_what_we_write() {
    for passphrase in [None, Some("correct horse")] {
        let (_folder, path) = folder();
        alice().save(&path, passphrase).unwrap();
        let given = format!("pass:{}", passphrase.unwrap_or_default());
        let arguments = ["pkey", "-noout", "-text_pub", "-passin", &given, "-in"];
        let Some(output) = openssl(&arguments, &path) else { return };
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let hex: String = text.chars().filter(|letter| letter.is_ascii_hexdigit()).collect();
        let key: String = alice().peer_id().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(hex.contains(&key), "{text}");
    }
}

#[test]
fn we_read_what_openssl_writes() {
    for passphrase in [None, Some("correct horse")] {
        let (_folder, path) = folder();
        let given = format!("pass:{}", passphrase.unwrap_or_default());
        let mut arguments = vec!["genpkey", "-algorithm", "ed25519"];
        if passphrase.is_some() {
            arguments.extend(["-aes256", "-pass", &given]);
        }
        arguments.push("-out");
        let Some(output) = openssl(&arguments, &path) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        set_mode(&path, 0o600);
        Identity::load(&path, passphrase).unwrap();
    }
}

#[test]
fn an_encrypted_file_says_how_in_the_clear_and_hides_the_rest() {
    let (_folder, path) = folder();
    alice().save(&path, Some("correct horse")).unwrap();
    let first = fs::read_to_string(&path).unwrap();
    assert!(first.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    fs::remove_file(&path).unwrap();
    alice().save(&path, Some("correct horse")).unwrap();
    assert_ne!(fs::read_to_string(&path).unwrap(), first, "salt and IV are drawn anew");

    let Some(output) = openssl(&["asn1parse", "-i", "-in"], &path) else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    // N = 2^14 = 0x4000, r = 8, p = 1.
    for part in ["PBES2", "scrypt", ":4000", ":08", ":01", "aes-256-cbc"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn the_passphrase_must_be_the_right_one() {
    let (_folder, path) = folder();
    alice().save(&path, Some("correct horse")).unwrap();
    let before = fs::read(&path).unwrap();
    for wrong in ["correct", "correct horse ", "", "Correct horse"] {
        let error = Identity::load(&path, Some(wrong)).unwrap_err();
        assert!(matches!(error, KeyFileError::Passphrase { .. }), "{error}");
    }
    let error = Identity::load(&path, None).unwrap_err();
    assert!(matches!(error, KeyFileError::Encrypted { .. }), "{error}");
    assert!(matches!(Identity::load_or_create(&path, None), Err(KeyFileError::Encrypted { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_passphrase_for_a_file_that_is_not_encrypted_is_pointed_out() {
    let (_folder, path) = folder();
    alice().save(&path, None).unwrap();
    let error = Identity::load(&path, Some("correct horse")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} is not encrypted, though a passphrase was given", path.display())
    );
}

#[test]
fn an_empty_passphrase_is_refused_before_anything_is_written() {
    let (folder, path) = folder();
    assert!(matches!(alice().save(&path, Some("")), Err(KeyFileError::EmptyPassphrase)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let (folder, path) = folder();
    fs::write(&path, "something of value").unwrap();
    let error = alice().save(&path, None).unwrap_err();
    assert_eq!(error.to_string(), format!("{} exists and is not overwritten", path.display()));
    assert_eq!(fs::read_to_string(&path).unwrap(), "something of value");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn load_or_create_creates_once() {
    let (folder, path) = folder();
    let first = Identity::load_or_create(&path, None).unwrap();
    let second = Identity::load_or_create(&path, None).unwrap();
    assert_eq!(first.peer_id(), second.peer_id());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn processes_that_create_at_once_end_with_one_key() {
    let (_folder, path) = folder();
    let create = || Identity::load_or_create(&path, None).unwrap().peer_id();
    let peers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(peers.iter().all(|peer| *peer == peers[0]), "{peers:?}");
}

#[cfg(unix)]
#[test]
fn a_new_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = folder();
    alice().save(&path, None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_get_at_is_refused() {
    let (_folder, path) = folder();
    alice().save(&path, None).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o601, 0o644, 0o777] {
        set_mode(&path, mode);
        match Identity::load(&path, None) {
            Err(KeyFileError::Mode { mode: found, .. }) => assert_eq!(found, mode),
            other => panic!("mode {mode:o}: {other:?}"),
        }
    }
    set_mode(&path, 0o644);
    let error = Identity::load(&path, None).unwrap_err();
    let expected = format!("{} has mode 0644, so others may get at the key: chmod 600 it", path.display());
    assert_eq!(error.to_string(), expected);
    for mode in [0o600, 0o400] {
        set_mode(&path, mode);
        Identity::load(&path, None).unwrap();
    }
}

#[test]
fn a_file_that_is_not_there_is_called_absent() {
    let (_folder, path) = folder();
    let error = Identity::load(&path, None).unwrap_err();
    assert_eq!(error.to_string(), format!("there is no key file {}", path.display()));
}

#[test]
fn a_folder_that_is_not_there_is_an_error_of_the_environment() {
    let (_folder, path) = folder();
    let path = path.join("deeper");
    let error = Identity::load_or_create(&path, None).unwrap_err();
    match error {
        KeyFileError::Io { action, .. } => assert_eq!(action, "write"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_key_is_refused_with_the_reason() {
    let plain = {
        let (_folder, path) = folder();
        alice().save(&path, None).unwrap();
        fs::read_to_string(&path).unwrap()
    };
    let certificate = plain.replace("PRIVATE KEY", "CERTIFICATE");
    let cut = plain.replace("EBAQEB\n", "EBA\n");
    let huge = "x".repeat(16 * 1024 + 1);
    for contents in ["", "hello", &certificate, &cut, &plain[..plain.len() / 2], &huge] {
        let (_folder, path) = folder();
        private(&path, contents);
        let error = Identity::load(&path, None).unwrap_err();
        assert!(matches!(error, KeyFileError::NotAKey { .. }), "{error}");
        assert!(error.to_string().contains("is not a PKCS#8 private key in PEM: "), "{error}");
    }
    let (_folder, path) = folder();
    fs::write(&path, [0xff, 0xfe]).unwrap();
    set_mode(&path, 0o600);
    assert!(matches!(Identity::load(&path, None), Err(KeyFileError::NotAKey { .. })));
}

#[test]
fn a_key_of_another_algorithm_is_named() {
    // `openssl genpkey -algorithm x25519`.
    let x25519 = "-----BEGIN PRIVATE KEY-----\n\
                  MC4CAQAwBQYDK2VuBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n\
                  -----END PRIVATE KEY-----\n";
    let (_folder, path) = folder();
    private(&path, x25519);
    match Identity::load(&path, None) {
        Err(KeyFileError::Algorithm { found, .. }) => assert_eq!(found, "1.3.101.110"),
        other => panic!("{other:?}"),
    }
}

/// A file that asks for 16 GiB is told so, and nothing is taken.
#[test]
fn a_file_that_asks_for_too_much_memory_is_refused() {
    use pkcs8::pkcs5::{pbes2, scrypt};
    let cost = scrypt::Params::new(24, 8, 1).unwrap();
    let scheme = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &[0; 16], [0; 16]).unwrap();
    let data = pkcs8::der::asn1::OctetStringRef::new(&[0; 64]).unwrap();
    let info =
        pkcs8::EncryptedPrivateKeyInfoRef { encryption_algorithm: scheme.into(), encrypted_data: data };
    let document = pkcs8::SecretDocument::encode_msg(&info).unwrap();
    let pem = document.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap();
    let (_folder, path) = folder();
    private(&path, &pem);
    let error = Identity::load(&path, Some("correct horse")).unwrap_err();
    let expected = format!(
        "{} is encrypted in a way that is not supported: scrypt with N = 16777216, r = 8, p = 1 needs 17179869184 bytes 1 times, \
         the limits are 268435456 and 16",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
}

/// No file, however it is changed, does anything but load or fail.
#[test]
fn every_changed_byte_of_a_key_file_is_a_key_or_an_error() {
    let (_folder, path) = folder();
    alice().save(&path, None).unwrap();
    let plain = fs::read(&path).unwrap();
    for at in 0..plain.len() {
        let mut changed = plain.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        if let Ok(identity) = Identity::load(&path, None) {
            // Base64 has no redundancy: another key is what a changed digit makes.
            assert!((49..=92).contains(&at) || identity.peer_id() == alice().peer_id(), "byte {at}");
        }
    }
}
