//! What is measured: agents, a service and a proxy, with the bundled template and one whose backend is nginx.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bivouac_nomad::{Client, Config};
use bivouac_protocol::id::SESSION_ID_LEN as _;
use bivouac_tests::agents::{Agents, AgentsConfig};
use rand::distr::{Alphanumeric, SampleString};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::process::Process;
use crate::{nginx, say};
