//! The secrets beside a database: the key that signs callback URLs, and the token of the local API.
//!
//! Both are made on first use, readable by their owner alone, and never shown.

use data_encoding::BASE64URL_NOPAD;
use rap_client::KeyRing;
use rap_http::Secret;
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// Where the secrets of a database file live: `agent.db.key` and `agent.db.token` beside `agent.db`.
#[derive(Debug, Clone)]
pub struct LocalFiles {
    key: PathBuf,
    token: PathBuf,
}

/// Why a secret's file cannot be used: a sentence that names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FilesError(String);

impl LocalFiles {
    /// The files beside a database.
    pub fn beside(database: impl AsRef<Path>) -> Self {
        let named = |suffix: &str| {
            let mut name = OsString::from(database.as_ref());
            name.push(suffix);
            PathBuf::from(name)
        };
        Self { key: named(".key"), token: named(".token") }
    }

    /// The file of the signing keys.
    pub fn key_path(&self) -> &Path {
        &self.key
    }

    /// The file of the API token.
    pub fn token_path(&self) -> &Path {
        &self.token
    }

    /// The keys that sign callback URLs; made on first use. Without this file every call that is under way
    /// when the runtime restarts is cut off.
    ///
    /// # Errors
    /// When the file cannot be read or made, is open to others, or holds no key.
    pub fn keys(&self) -> Result<KeyRing, FilesError> {
        let text = load_or_create(&self.key, || {
            let ring = KeyRing::generate().map_err(|e| FilesError(e.to_string()))?;
            Ok(ring.to_text().expose().to_owned())
        })?;
        KeyRing::from_text(&text).map_err(|e| FilesError(format!("{}: {e}", self.key.display())))
    }

    /// The token of the local API; made on first use.
    ///
    /// # Errors
    /// When the file cannot be read or made, is open to others, or holds no token that can be sent.
    pub fn token(&self) -> Result<Secret, FilesError> {
        let text = load_or_create(&self.token, || {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes)
                .map_err(|e| FilesError(format!("the system gives no random bytes: {e}")))?;
            Ok(BASE64URL_NOPAD.encode(&bytes))
        })?;
        let text = text.trim();
        if text.len() < 16 {
            let path = self.token.display();
            return Err(FilesError(format!("{path} holds no token; delete it for a new one")));
        }
        let token = Secret::from(text);
        match token.bearer_header() {
            Ok(_) => Ok(token),
            Err(e) => {
                Err(FilesError(format!("{}: {e}, or delete the file for a new one", self.token.display())))
            }
        }
    }
}

fn load_or_create(
    path: &Path,
    make: impl FnOnce() -> Result<String, FilesError>,
) -> Result<String, FilesError> {
    match read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Ok(text) => return Ok(text),
        Err(e) => return Err(FilesError(format!("{}: {e}", path.display()))),
    }
    let text = make()?;
    // Written under another name and linked into place: whoever reads finds the whole secret or none, and of
    // two programs that start at once both use the first one's.
    let mut draft = OsString::from(path);
    draft.push(format!(".{}.new", std::process::id()));
    let draft = PathBuf::from(draft);
    let made = write_private(&draft, &text).and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    match made {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(FilesError(format!("{} cannot be made: {e}", path.display()))),
    }
    read(path).map_err(|e| FilesError(format!("{}: {e}", path.display())))
}

fn read(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "others may read this secret (mode {mode:o}); run chmod 600 on it"
            )));
        }
    }
    Ok(text)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
