//! Key files: PKCS#8 in PEM, as OpenSSL reads and writes them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pkcs8::der::Decode;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::{EncryptionScheme, pbes2, scrypt};
use pkcs8::spki::AlgorithmIdentifier;
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument};
use zeroize::Zeroizing;

use crate::Identity;
use crate::identity::{EntropyError, fill};

/// Ed25519 (RFC 8410, section 3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// No key comes near it.
const MAX_FILE: u64 = 16 * 1024;

/// scrypt (RFC 7914): N = 2^14, r = 8, p = 1 take 16 MiB, and OpenSSL 3.0 refuses more than 32.
const SCRYPT_LOG_N: u8 = 14;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;

/// What a file of somebody else's may ask for: N = 2^18 with r = 8.
const MAX_SCRYPT_MEMORY: u64 = 256 * 1024 * 1024;
const MAX_SCRYPT_PARALLEL: u16 = 16;

impl Identity {
    /// Writes a new key file, readable by its owner alone; encrypted when there is a passphrase. The file appears whole
    /// or not at all, and survives a crash after the return.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] when there is a file: it is left as it is.
    pub fn save(&self, path: impl AsRef<Path>, passphrase: Option<&str>) -> Result<(), KeyFileError> {
        let path = path.as_ref();
        let pem = self.to_pem(passphrase)?;
        write_new(path, pem.as_bytes())
    }

    /// Reads a key file, its own or one of `openssl genpkey -algorithm ed25519`.
    ///
    /// # Errors
    /// [`KeyFileError::Absent`] when there is none; [`KeyFileError::Mode`] when others may read it;
    /// [`KeyFileError::Encrypted`] and [`KeyFileError::Passphrase`] about the passphrase; and so on.
    pub fn load(path: impl AsRef<Path>, passphrase: Option<&str>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let pem = read(path)?;
        Self::from_pem(path, &pem, passphrase)
    }

    /// [`Identity::load`], or a new identity and [`Identity::save`] when there is no file.
    ///
    /// # Errors
    /// Those of both.
    pub fn load_or_create(path: impl AsRef<Path>, passphrase: Option<&str>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        match Self::load(path, passphrase) {
            Err(KeyFileError::Absent { .. }) => {}
            other => return other,
        }
        let fresh = Self::generate()?;
        match fresh.save(path, passphrase) {
            Ok(()) => Ok(fresh),
            // Another process was faster.
            Err(KeyFileError::Exists { .. }) => Self::load(path, passphrase),
            Err(error) => Err(error),
        }
    }

    fn to_pem(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>, KeyFileError> {
        // RFC 8410, section 7: the private key is an octet string within an octet string.
        let mut private = Zeroizing::new([0; 34]);
        let tagged = [0x04, 0x20].iter().chain(self.seed());
        private.iter_mut().zip(tagged).for_each(|(place, byte)| *place = *byte);
        let encode = |_| KeyFileError::Encoding;
        let info = PrivateKeyInfoRef::new(
            AlgorithmIdentifier { oid: ED25519, parameters: None },
            OctetStringRef::new(private.as_ref()).map_err(encode)?,
        );
        let plain = SecretDocument::encode_msg(&info).map_err(encode)?;
        let Some(passphrase) = passphrase else {
            return plain.to_pem(PLAIN, LineEnding::LF).map_err(encode);
        };
        if passphrase.is_empty() {
            return Err(KeyFileError::EmptyPassphrase);
        }
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        fill(&mut salt)?;
        fill(&mut iv)?;
        let cost =
            scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).map_err(|_| KeyFileError::Encoding)?;
        let encrypted = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
            .map_err(pkcs8::Error::from)
            .and_then(|parameters| info.encrypt_with_params(parameters, passphrase))
            .map_err(|_| KeyFileError::Encoding)?;
        encrypted.to_pem(ENCRYPTED, LineEnding::LF).map_err(encode)
    }

    fn from_pem(path: &Path, pem: &str, passphrase: Option<&str>) -> Result<Self, KeyFileError> {
        let not_a_key = |why: String| KeyFileError::NotAKey { path: path.to_owned(), why };
        let (label, document) =
            SecretDocument::from_pem(pem).map_err(|error| not_a_key(error.to_string()))?;
        match (label, passphrase) {
            (PLAIN, None) => Self::from_der(path, document.as_bytes()),
            (PLAIN, Some(_)) => Err(KeyFileError::NotEncrypted { path: path.to_owned() }),
            (ENCRYPTED, None) => Err(KeyFileError::Encrypted { path: path.to_owned() }),
            (ENCRYPTED, Some(passphrase)) => {
                let info = EncryptedPrivateKeyInfoRef::from_der(document.as_bytes())
                    .map_err(|error| not_a_key(error.to_string()))?;
                check_cost(&info.encryption_algorithm)
                    .map_err(|why| KeyFileError::Unsupported { path: path.to_owned(), why })?;
                // The padding is wrong, or by chance is not and the rest is no key.
                let wrong = KeyFileError::Passphrase { path: path.to_owned() };
                let plain = match info.decrypt(passphrase) {
                    Ok(plain) => plain,
                    Err(pkcs8::Error::EncryptedPrivateKey(error)) if !is_decryption(error) => {
                        return Err(KeyFileError::Unsupported {
                            path: path.to_owned(),
                            why: error.to_string(),
                        });
                    }
                    Err(_) => return Err(wrong),
                };
                match Self::from_der(path, plain.as_bytes()) {
                    Err(KeyFileError::NotAKey { .. }) => Err(wrong),
                    other => other,
                }
            }
            (other, _) => Err(not_a_key(format!("it holds a {other:?}"))),
        }
    }

    fn from_der(path: &Path, der: &[u8]) -> Result<Self, KeyFileError> {
        let not_a_key = |why: &str| KeyFileError::NotAKey { path: path.to_owned(), why: why.to_owned() };
        let info = PrivateKeyInfoRef::from_der(der).map_err(|error| not_a_key(&error.to_string()))?;
        if info.algorithm.oid != ED25519 {
            let found = info.algorithm.oid.to_string();
            return Err(KeyFileError::Algorithm { path: path.to_owned(), found });
        }
        let seed = match info.private_key.as_bytes() {
            [0x04, 0x20, seed @ ..] => <[u8; 32]>::try_from(seed).ok().map(Zeroizing::new),
            _ => None,
        };
        let seed = seed.ok_or_else(|| not_a_key("the Ed25519 key is not 32 bytes"))?;
        Ok(Self::from_seed(*seed))
    }
}

/// scrypt takes as much memory as the file asks for, so it may not ask for anything.
fn check_cost(scheme: &EncryptionScheme) -> Result<(), String> {
    let Some(scrypt) = scheme.pbes2().and_then(|parameters| parameters.kdf.scrypt()) else { return Ok(()) };
    let needed = scrypt.cost_parameter.saturating_mul(128).saturating_mul(scrypt.block_size.into());
    if needed > MAX_SCRYPT_MEMORY || scrypt.parallelization > MAX_SCRYPT_PARALLEL {
        return Err(format!(
            "scrypt with N = {}, r = {}, p = {} needs {needed} bytes {} times, the limits are {MAX_SCRYPT_MEMORY} and \
             {MAX_SCRYPT_PARALLEL}",
            scrypt.cost_parameter, scrypt.block_size, scrypt.parallelization, scrypt.parallelization
        ));
    }
    Ok(())
}

fn is_decryption(error: pkcs8::pkcs5::Error) -> bool {
    matches!(error, pkcs8::pkcs5::Error::DecryptFailed)
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |source| KeyFileError::io(path, "read", source);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyFileError::Absent { path: path.to_owned() });
        }
        other => other.map_err(failed)?,
    };
    // Of what was opened, not of what the path names by now.
    let metadata = file.metadata().map_err(failed)?;
    check_mode(path, &metadata)?;
    if metadata.len() > MAX_FILE {
        let why = format!("it has {} bytes, the limit is {MAX_FILE}", metadata.len());
        return Err(KeyFileError::NotAKey { path: path.to_owned(), why });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(KeyFileError::NotAKey { path: path.to_owned(), why: "it is not text".to_owned() }),
    }
}

#[cfg(unix)]
fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Elsewhere than on Unix, who may read a file is for its folder to say.
#[cfg(not(unix))]
fn check_mode(_path: &Path, _metadata: &fs::Metadata) -> Result<(), KeyFileError> {
    Ok(())
}

/// Written beside, made durable, then linked to its name, which fails where there is one.
fn write_new(path: &Path, contents: &[u8]) -> Result<(), KeyFileError> {
    let mut random = [0; 8];
    fill(&mut random)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{:016x}.new", u64::from_le_bytes(random)));
    let beside = PathBuf::from(beside);

    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()
    });
    let linked = written.and_then(|()| fs::hard_link(&beside, path));
    // Whatever became of it, only the name that was asked for may stay.
    let removed = fs::remove_file(&beside);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyFileError::Exists { path: path.to_owned() });
        }
        other => other.map_err(|source| KeyFileError::io(path, "write", source))?,
    }
    removed.and_then(|()| sync_folder(path)).map_err(|source| KeyFileError::io(path, "write", source))
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Why a key file was not read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is no such file.
    #[error("there is no key file {}", .path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// There is a file already.
    #[error("{} exists and is not overwritten", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read or write it.
    #[error("{} has mode {mode:04o}, so others may get at the key: chmod 600 it", .path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is encrypted and no passphrase was given.
    #[error("{} is encrypted and needs a passphrase", .path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// It is not encrypted and a passphrase was given.
    #[error("{} is not encrypted, though a passphrase was given", .path.display())]
    NotEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase is wrong.
    #[error("the passphrase does not open {}", .path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// An empty passphrase would protect nothing.
    #[error("the passphrase is empty: give one, or none")]
    EmptyPassphrase,
    /// It is encrypted in a way that is not known here, or that costs too much.
    #[error("{} is encrypted in a way that is not supported: {why}", .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        why: String,
    },
    /// It holds no private key.
    #[error("{} is not a PKCS#8 private key in PEM: {why}", .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It holds a key of another kind.
    #[error("{} holds a key of algorithm {found}, not Ed25519 (1.3.101.112)", .path.display())]
    Algorithm {
        /// The file.
        path: PathBuf,
        /// The algorithm's object identifier.
        found: String,
    },
    /// The key could not be put into PKCS#8.
    #[error("the key could not be encoded")]
    Encoding,
    /// The operating system gave no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The file system failed.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the file system said.
        source: Arc<io::Error>,
    },
}

impl KeyFileError {
    fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source: Arc::new(source) }
    }
}
