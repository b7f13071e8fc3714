//! How the processes of a world reach Nomad and Consul, and on a locked site with which credentials: each role's own, in
//! files, with no more rights than an installation grants.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::World;
use super::site::Site;
use crate::agents::{Certified, Granted, SESSIONS, Validity, replace, rules};
use crate::faults::{FaultProxy, Wire};

/// A part of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The service.
    Service,
    /// The proxy.
    Proxy,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Proxy => "proxy",
        }
    }
}

/// The credentials of one world on a locked site.
#[derive(Debug)]
pub struct Doors {
    folder: PathBuf,
    /// Opens Nomad to the service.
    pub nomad: Granted,
    /// Opens Consul to the service.
    pub service: Granted,
    /// Opens Consul to the proxies.
    pub proxy: Granted,
}

impl Doors {
    /// Grants them; `None` where no doors are.
    pub(super) async fn open(site: &Site, folder: &Path, prefix: &str) -> Option<Self> {
        let locks = site.locks()?;
        let folder = folder.join("doors");
        std::fs::create_dir_all(&folder).expect("a folder");
        let (nomad, consul) = (site.agents().nomad().url(), site.agents().consul().url());
        let mut granted = Vec::new();
        for role in ["service", "proxy"] {
            let mut names = Vec::new();
            // They run beside Nomad here, and register themselves.
            for file in [role.to_owned(), format!("register-{role}")] {
                let name = format!("{prefix}-{file}");
                let text = rules(&format!("consul/{file}.hcl"), prefix, SESSIONS);
                locks.policy(&consul, &name, &text).await.expect("the policy");
                names.push(name);
            }
            granted.push(locks.consul_token(&consul, &names).await.expect("the token"));
        }
        let text = rules("nomad/service.hcl", prefix, SESSIONS);
        let name = format!("{prefix}-service");
        let nomad = locks.nomad_token(&nomad, &name, &text).await.expect("the token");
        let (proxy, service) = (granted.remove(1), granted.remove(0));
        let doors = Self { folder, nomad, service, proxy };
        for (file, granted) in [
            ("service.nomad", &doors.nomad),
            ("service.consul", &doors.service),
            ("proxy.consul", &doors.proxy),
        ] {
            replace(&doors.folder.join(file), &granted.secret).expect("the token's file");
        }
        for role in [Role::Service, Role::Proxy] {
            doors.certify(site, role, Validity::Good);
        }
        Some(doors)
    }

    /// The file with a role's token for Consul.
    #[must_use]
    pub fn consul_token_file(&self, role: Role) -> PathBuf {
        self.folder.join(format!("{}.consul", role.name()))
    }

    /// The file with the service's token for Nomad.
    #[must_use]
    pub fn nomad_token_file(&self) -> PathBuf {
        self.folder.join("service.nomad")
    }

    /// A role's certificate.
    #[must_use]
    pub fn certified(&self, role: Role) -> Certified {
        let file = |kind: &str| self.folder.join(format!("{}.{kind}", role.name()));
        Certified { certificate: file("pem"), key: file("key") }
    }

    /// Gives a role another certificate, of the authority that signs at present.
    ///
    /// # Panics
    /// When it cannot be written, or the site is not locked.
    pub fn certify(&self, site: &Site, role: Role, validity: Validity) {
        let locks = site.locks().expect("a locked site");
        locks.authority().issue(&self.certified(role), &[role.name()], validity).expect("the certificate");
    }
}

impl World {
    /// The credentials of this world.
    ///
    /// # Panics
    /// When it is not a locked one.
    #[must_use]
    pub fn doors(&self) -> &Doors {
        self.parts.doors.as_ref().expect("a locked world")
    }

    /// The variables by which a process finds Nomad and Consul here, and shows who it is.
    ///
    /// # Panics
    /// In an embedded world.
    #[must_use]
    pub fn reach(&self, role: Role, nomad: SocketAddr, consul: SocketAddr) -> Vec<(String, String)> {
        let site = self.site();
        let (mut nomad, mut consul) = (nomad, consul);
        if !self.parts.proxied {
            (nomad, consul) = (site.nomad_address(), site.consul_address());
        }
        let Some((locks, doors)) = site.locks().zip(self.parts.doors.as_ref()) else {
            let mut reach = vec![("CONSUL_HTTP_ADDR".to_owned(), consul.to_string())];
            if role == Role::Service {
                reach.push(("NOMAD_ADDR".to_owned(), format!("http://{nomad}")));
            }
            return reach;
        };
        let own = doors.certified(role);
        let text = |path: &Path| path.display().to_string();
        let mut reach = vec![
            ("CONSUL_HTTP_ADDR", format!("https://{consul}")),
            ("CONSUL_CACERT", text(&locks.ca_file())),
            ("CONSUL_CLIENT_CERT", text(&own.certificate)),
            ("CONSUL_CLIENT_KEY", text(&own.key)),
            ("CONSUL_HTTP_TOKEN_FILE", text(&doors.consul_token_file(role))),
        ];
        if role == Role::Service {
            reach.extend([
                ("NOMAD_ADDR", format!("https://{nomad}")),
                ("BIVOUAC_NOMAD_NAMESPACE", SESSIONS.to_owned()),
                ("NOMAD_CACERT", text(&locks.ca_file())),
                ("NOMAD_CLIENT_CERT", text(&own.certificate)),
                ("NOMAD_CLIENT_KEY", text(&own.key)),
                ("NOMAD_TOKEN_FILE", text(&doors.nomad_token_file())),
            ]);
        }
        reach.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// A fault proxy in front of an agent, which on a locked site speaks TLS towards both.
    pub(super) async fn fault_proxy(&self, target: SocketAddr) -> FaultProxy {
        let wire = self.site().locks().map(|locks| {
            let own = locks.certified("tests");
            Wire::new(&locks.ca_file(), &own.certificate, &own.key).expect("its certificates")
        });
        FaultProxy::on_a_wire(target, wire).await
    }
}
