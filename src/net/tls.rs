//! TLS client settings: rustls with ring, bundled roots plus the CA files that the environment names (spec S-82).
//! Knows no sockets.

use rustls::crypto::{CryptoProvider, KeyProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A file or directory of CA certificates larger than this many files is somebody's home, not a CA directory.
const MAX_CA_FILES: usize = 1000;

/// What is spoken inside: HTTP/1.1 announces itself, a WebSocket handshake of codex has no ALPN (`wire.md` 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http,
    WebSocket,
}

/// The settings, made once in a process: roots take a moment to read, and resumption tickets live in them.
/// The error tells which CA file cannot be used.
pub fn config(protocol: Protocol) -> Result<Arc<ClientConfig>, String> {
    static CONFIGS: OnceLock<Result<[Arc<ClientConfig>; 2], String>> = OnceLock::new();
    let configs = CONFIGS.get_or_init(|| {
        let websocket = build(&extra_ca_files())?;
        let mut http = websocket.clone();
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok([Arc::new(http), Arc::new(websocket)])
    });
    match configs {
        Ok(configs) => Ok(Arc::clone(&configs[usize::from(protocol == Protocol::WebSocket)])),
        Err(error) => Err(error.clone()),
    }
}

/// Whether the files that the environment names hold a certificate: a mistake there is better told before codex starts than
/// as a failure of every request. Reads no more than that takes.
pub fn check_named_files() -> Result<(), String> {
    named_ca_files()
        .find(|file| !is_pem(file))
        .map_or(Ok(()), |file| Err(format!("CA file {}: no certificate can be read from it", file.display())))
}

/// The provider's random bytes, for the secret of a run and WebSocket keys.
pub fn random(bytes: &mut [u8]) -> Result<(), String> {
    provider().secure_random.fill(bytes).map_err(|_| "the system gives no random bytes".to_owned())
}

/// Ring's, without what signs: prodex shows no certificate of its own, and 20 KB of the binary are for that alone.
fn provider() -> CryptoProvider {
    CryptoProvider { key_provider: &NoOwnKeys, ..rustls::crypto::ring::default_provider() }
}

#[derive(Debug)]
struct NoOwnKeys;

impl KeyProvider for NoOwnKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("prodex has no certificate of its own".to_owned()))
    }
}

fn build(ca_files: &[PathBuf]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for file in ca_files {
        add_file(&mut roots, file)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add_file(roots: &mut RootCertStore, file: &Path) -> Result<(), String> {
    let said = |what: String| format!("CA file {}: {what}", file.display());
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| said(error.to_string()))?;
    let mut found = 0;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| said(error.to_string()))?;
        // A bundle may hold an odd certificate; one that cannot be an anchor takes nothing from the others.
        found += usize::from(roots.add(certificate).is_ok());
    }
    if found == 0 { Err(said("no usable certificate in it".to_owned())) } else { Ok(()) }
}

/// `CODEX_CA_CERTIFICATE` and `SSL_CERT_FILE` must be usable when set; of `SSL_CERT_DIR` what is no certificate is skipped.
fn extra_ca_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = named_ca_files().collect();
    if let Some(dirs) = std::env::var_os("SSL_CERT_DIR") {
        for dir in std::env::split_paths(&dirs) {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
            files.extend(entries.filter(|path| is_pem(path)).take(MAX_CA_FILES));
        }
    }
    files
}

fn named_ca_files() -> impl Iterator<Item = PathBuf> {
    ["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"]
        .into_iter()
        .filter_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn is_pem(path: &Path) -> bool {
    path.is_file() && CertificateDer::pem_file_iter(path).is_ok_and(|mut all| matches!(all.next(), Some(Ok(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_roots_suffice_and_a_bad_file_is_named() {
        assert!(build(&[]).is_ok());
        let error = build(&[PathBuf::from("/no/such/ca.pem")]).unwrap_err();
        assert!(error.starts_with("CA file /no/such/ca.pem: "), "{error}");
    }

    #[test]
    fn random_bytes_differ() {
        let (mut a, mut b) = ([0; 16], [0; 16]);
        random(&mut a).unwrap();
        random(&mut b).unwrap();
        assert_ne!(a, b);
    }
}
