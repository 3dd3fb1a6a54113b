//! What an account has left, and the three spellings of it: `wham/usage`, the `x-codex-*` headers, and the
//! `codex.rate_limits` event. Knows no request.

use super::json::quote;
use super::token;

#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Percent. Written as an integer when it is one.
    pub used: f64,
    pub seconds: u64,
    pub resets_in: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    pub plan: String,
    pub primary: Option<Window>,
    pub secondary: Option<Window>,
    /// Put in place of the e-mail that goes with the account's name.
    pub email: Option<String>,
    /// Raw JSON members that replace or join those of `wham/usage`: `"additional_rate_limits":[…]`.
    pub extra: Vec<(String, String)>,
}

impl Default for Usage {
    fn default() -> Usage {
        Usage::both(12.0, 30.0)
    }
}

pub const FIVE_HOURS: u64 = 18_000;
pub const WEEK: u64 = 604_800;

impl Usage {
    /// The usual pair: five hours and a week.
    pub fn both(five_hours: f64, week: f64) -> Usage {
        Usage::windows(
            Some(Window { used: five_hours, seconds: FIVE_HOURS, resets_in: 9_000 }),
            Some(Window { used: week, seconds: WEEK, resets_in: 200_000 }),
        )
    }

    /// The shape since July 2026: the week stands in the first slot and there is no second.
    pub fn weekly_only(week: f64) -> Usage {
        Usage::windows(Some(Window { used: week, seconds: WEEK, resets_in: 200_000 }), None)
    }

    pub fn windows(primary: Option<Window>, secondary: Option<Window>) -> Usage {
        Usage { plan: "plus".to_owned(), primary, secondary, email: None, extra: Vec::new() }
    }

    pub fn plan(mut self, plan: &str) -> Usage {
        plan.clone_into(&mut self.plan);
        self
    }

    /// A raw member of the answer.
    pub fn extra(mut self, key: &str, json: &str) -> Usage {
        self.extra.push((key.to_owned(), json.to_owned()));
        self
    }

    fn reached(&self) -> bool {
        [&self.primary, &self.secondary].into_iter().flatten().any(|window| window.used >= 100.0)
    }

    /// The Unix second at which the account is free again, as quota errors name it.
    pub fn resets_at(&self) -> u64 {
        let windows = || [&self.primary, &self.secondary].into_iter().flatten();
        let full = windows().filter(|window| window.used >= 100.0).map(|window| window.resets_in).max();
        let wait = full.or_else(|| windows().map(|window| window.resets_in).min()).unwrap_or(3600);
        token::unix_now() + wait
    }

    /// The body of `wham/usage`.
    pub fn body(&self, name: &str) -> String {
        let email = self.email.clone().unwrap_or_else(|| token::email(name));
        let mut members = vec![
            ("user_id", quote(&format!("user-{name}"))),
            ("account_id", quote(&format!("user-{name}"))),
            ("email", quote(&email)),
            ("plan_type", quote(&self.plan)),
            ("rate_limit", self.rate_limit()),
            ("code_review_rate_limit", "null".to_owned()),
            ("additional_rate_limits", "null".to_owned()),
            (
                "credits",
                r#"{"has_credits":false,"unlimited":false,"overage_limit_reached":false,"balance":"0"}"#.to_owned(),
            ),
            ("spend_control", r#"{"reached":false,"individual_limit":null}"#.to_owned()),
            ("rate_limit_reached_type", "null".to_owned()),
            ("promo", "null".to_owned()),
        ];
        members.retain(|(key, _)| self.extra.iter().all(|(extra, _)| extra != key));
        members.extend(self.extra.iter().map(|(key, json)| (key.as_str(), json.clone())));
        let members: Vec<String> = members.iter().map(|(key, json)| format!("{}:{json}", quote(key))).collect();
        format!("{{{}}}", members.join(","))
    }

    fn rate_limit(&self) -> String {
        let window = |window: &Option<Window>| match window {
            None => "null".to_owned(),
            Some(w) => format!(
                r#"{{"used_percent":{},"limit_window_seconds":{},"reset_after_seconds":{},"reset_at":{}}}"#,
                w.used,
                w.seconds,
                w.resets_in,
                token::unix_now() + w.resets_in
            ),
        };
        format!(
            r#"{{"allowed":{},"limit_reached":{},"primary_window":{},"secondary_window":{}}}"#,
            !self.reached(),
            self.reached(),
            window(&self.primary),
            window(&self.secondary)
        )
    }

    /// The event that goes before an answer on a WebSocket.
    pub fn event(&self) -> String {
        let window = |window: &Option<Window>| match window {
            None => "null".to_owned(),
            Some(w) => format!(
                r#"{{"used_percent":{},"window_minutes":{},"reset_after_seconds":{},"reset_at":{}}}"#,
                w.used,
                w.seconds / 60,
                w.resets_in,
                token::unix_now() + w.resets_in
            ),
        };
        format!(
            r#"{{"type":"codex.rate_limits","plan_type":{},"rate_limits":{{"allowed":{},"limit_reached":{},"primary":{},"secondary":{}}},"code_review_rate_limits":null,"additional_rate_limits":null,"credits":null,"promo":null}}"#,
            quote(&self.plan),
            !self.reached(),
            self.reached(),
            window(&self.primary),
            window(&self.secondary)
        )
    }

    /// The headers of an HTTP answer.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![("x-codex-plan-type".to_owned(), self.plan.clone())];
        for (slot, window) in [("primary", &self.primary), ("secondary", &self.secondary)] {
            let Some(window) = window else { continue };
            let mut add = |what: &str, value: String| headers.push((format!("x-codex-{slot}-{what}"), value));
            add("used-percent", window.used.to_string());
            add("window-minutes", (window.seconds / 60).to_string());
            add("reset-at", (token::unix_now() + window.resets_in).to_string());
        }
        headers
    }
}
