//! TLS towards clients (rustls): a certificate and its key, read anew at each reload.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Tls;

/// Why clients cannot be offered TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read `{}` as PEM: {source}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("`{}` holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("use the certificate in `{}` with the key in `{}`: {source}", certificate.display(), key.display())]
    Pair { certificate: PathBuf, key: PathBuf, source: tokio_rustls::rustls::Error },
}

pub(super) fn server(tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(unreadable(&tls.certificate))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path: tls.certificate.clone() });
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(unreadable(&tls.key))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|source| {
        let (certificate, key) = (tls.certificate.clone(), tls.key.clone());
        TlsError::Pair { certificate, key, source }
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;
    use crate::gateway::tests::{Peer, config, gateway, mirror};

    /// Writes a certificate of its own for localhost.
    fn write(tls: &Tls) -> CertificateDer<'static> {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&tls.certificate, own.cert.pem()).unwrap();
        std::fs::write(&tls.key, own.signing_key.serialize_pem()).unwrap();
        own.cert.der().clone()
    }

    async fn connect(
        address: std::net::SocketAddr,
        trusted: CertificateDer<'static>,
    ) -> std::io::Result<Peer<tokio_rustls::client::TlsStream<TcpStream>>> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        Ok(Peer::over(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
    }

    #[tokio::test]
    async fn clients_speak_tls_and_a_new_certificate_needs_no_restart() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let tls = Tls { certificate: at("cert.pem"), key: at("key.pem") };
        let (first, upstream) = (write(&tls), mirror().await);
        let settings = || {
            let mut settings = config(&format!("up=http://{upstream}/"));
            settings.tls = Some(tls.clone());
            settings
        };
        let gateway = gateway(settings()).await;
        let mut client = connect(gateway.address, first.clone()).await.unwrap();
        assert!(client.exchange("POST", "/mcp/up", "", "{\"id\":1}").await.starts_with("HTTP/1.1 200"));

        let second = write(&tls);
        gateway.gateway.reload(settings()).unwrap();
        assert!(connect(gateway.address, first).await.is_err());
        let mut newcomer = connect(gateway.address, second).await.unwrap();
        for client in [&mut client, &mut newcomer] {
            assert!(client.exchange("POST", "/mcp/up", "", "{\"id\":1}").await.starts_with("HTTP/1.1 200"));
        }

        std::fs::write(&tls.key, "nonsense").unwrap();
        let refused = gateway.gateway.reload(settings()).unwrap_err().to_string();
        assert!(refused.contains("key.pem"), "{refused}");
        assert!(newcomer.exchange("POST", "/mcp/up", "", "{\"id\":1}").await.starts_with("HTTP/1.1 200"));
        gateway.stop().await;
    }
}
