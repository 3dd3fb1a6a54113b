//! A throw-away certificate authority and its server certificate for loopback. Knows no connection.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub struct Ca {
    /// The authority's certificate, for `SSL_CERT_FILE` and `CODEX_CA_CERTIFICATE`.
    pub pem: PathBuf,
    config: Arc<ServerConfig>,
}

impl Ca {
    /// Writes `standin-ca.pem` into `dir`. The keys stay in memory.
    pub fn new(dir: &Path) -> Ca {
        let ca_key = KeyPair::generate().expect("a key for the throw-away CA");
        let mut params = CertificateParams::new(Vec::new()).expect("no names to go wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "prodex stand-in CA");
        let ca = params.self_signed(&ca_key).expect("the CA signs itself");
        let pem = dir.join("standin-ca.pem");
        std::fs::write(&pem, ca.pem()).expect("the CA file is written");

        let leaf_key = KeyPair::generate().expect("a key for the leaf");
        // The last is for what is reached through a proxy, as loopback never is.
        let names = ["localhost", "127.0.0.1", "chatgpt.test"].map(str::to_owned);
        let mut leaf = CertificateParams::new(names).expect("the names are valid");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = leaf.signed_by(&leaf_key, &Issuer::new(params, ca_key)).expect("the CA signs the leaf");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("key and certificate belong together");
        // The real host offers h2 too; what it would do there is not this stand-in's to show.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ca { pem, config: Arc::new(config) }
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}
