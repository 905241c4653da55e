//! What is put before people: questions and sign-ins.

use super::{Rule, Seen, View};
use crate::verdict::Finding;
use rap_spec::Role;
use std::net::IpAddr;
use url::{Host, Url};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "rule/question-can-be-answered",
        title: "every question has choices, and a default among them",
        obligations: &["CHO-02"],
        role: Role::Server,
        check: can_be_answered,
    },
    Rule {
        id: "rule/auth-url-secure",
        title: "every auth_url is https, loopback excepted",
        obligations: &["OAU-03"],
        role: Role::Server,
        check: auth_url_secure,
    },
];

fn can_be_answered(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for question in view.callbacks.iter().filter(|c| c.string("type") == Some("user_choice")) {
        let choices = question.member("choices").as_array().map_or(0, Vec::len);
        let default = question.member("default").as_f64();
        #[allow(clippy::cast_precision_loss, reason = "nobody offers 2^52 choices")]
        let valid = default.is_some_and(|d| d >= 0.0 && d.fract() == 0.0 && d < choices as f64);
        let wrong = (!valid).then(|| {
            format!("a question has {choices} choices and the default {}", question.member("default"))
        });
        seen.look(wrong.map(|why| Finding::new("CHO-02", why, &[question.exchange.n])));
    }
    seen
}

/// What is wrong with the address of a sign-in.
pub(crate) fn insecure(url: &str) -> Option<String> {
    let Ok(parsed) = Url::parse(url) else { return Some(format!("auth_url {url:?} is no URL")) };
    let loopback = match parsed.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    };
    match parsed.scheme() {
        "https" => None,
        "http" if loopback => None,
        scheme => Some(format!("auth_url is {scheme}, and not on loopback")),
    }
}

fn auth_url_secure(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for message in view.callbacks.iter().filter(|c| c.string("type") == Some("oauth")) {
        let wrong = insecure(message.string("auth_url").unwrap_or_default());
        seen.look(wrong.map(|why| Finding::new("OAU-03", why, &[message.exchange.n])));
    }
    seen
}
