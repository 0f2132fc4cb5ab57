//! kubectl, as a person types it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub struct Kubectl {
    program: PathBuf,
    home: PathBuf,
    port: u16,
    user: String,
    text: String,
}

impl Kubectl {
    /// The client of a user, whom the API server knows by a token.
    pub fn new(program: &Path, home: &Path, port: u16, user: &str, token: &str) -> Result<Kubectl> {
        // The nodes reach the host's loopback by the same address.
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'https://127.0.0.1:{port}', \
             insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: '{user}', user: {{token: '{token}'}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: '{user}'}}}}]\n"
        );
        let (program, home, user) = (program.to_owned(), home.to_owned(), user.to_owned());
        let kubectl = Kubectl { program, home, port, user, text };
        fs::write(kubectl.kubeconfig(), &kubectl.text).context("cannot write the kubeconfig")?;
        Ok(kubectl)
    }

    /// The client of a service account in the driver's namespace, with the token that Kubernetes
    /// has given to it.
    pub fn service_account(&self, name: &str) -> Result<Kubectl> {
        let get = |kind: &str, name: &str, template: &str| {
            self.read(&["-n", "rbd-csi", "get", kind, name, &format!("--output=go-template={template}")])
        };
        let secret = get("serviceaccount", name, "{{(index .secrets 0).name}}")?;
        let token = get("secret", &secret, "{{.data.token|base64decode}}")?;
        Kubectl::new(&self.program, &self.home, self.port, name, &token)
    }

    /// The path of the configuration of clients.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.join(format!("kubeconfig-{}", self.user))
    }

    /// The configuration of clients.
    pub fn configuration(&self) -> &str {
        &self.text
    }

    /// Runs a command, and returns what it prints.
    pub fn read(&self, words: &[&str]) -> Result<String> {
        self.run(words, "")
    }

    /// Runs a command, and returns what it prints as JSON.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let text = self.read(&[words, &["--output=json"]].concat())?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.run(&["apply", "--filename=-"], manifests)
    }

    /// Runs a command with this input, and returns what it prints.
    pub fn run(&self, words: &[&str], input: &str) -> Result<String> {
        let line = || format!("kubectl {}", words.join(" "));
        let mut command = Command::new(&self.program);
        command.args(words).env("KUBECONFIG", self.kubeconfig()).env("HOME", &self.home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start `{}`", line()))?;
        // A manifest is smaller than the pipe. A command that does not read it fails anyway.
        child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("`{}`: {}", line(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}
