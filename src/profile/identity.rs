//! Whose login an auth.json is, and whether two of them are the same account (spec S-30, S-31): for deciding what a new login
//! updates. Pure: compares what was read, knows no file and no registry. Nothing in here is a secret.

use super::auth::{Auth, Tokens};

/// What the tokens say about their owner, unverified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The workspace: what is billed and limited. Members of a team share it.
    pub account_id: Option<String>,
    /// The person.
    pub user_id: Option<String>,
    pub email: Option<String>,
}

/// How sure it is that two logins are one account, surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    Account,
    /// The same e-mail, and nothing is known of one side's account.
    Email,
}

impl Identity {
    /// Of the login in a home; `remembered` is the e-mail of the registry, for a home that has none.
    pub fn of(auth: &Auth, remembered: Option<&str>) -> Identity {
        let own = auth.tokens().map(Identity::of_tokens).unwrap_or_default();
        Identity { email: own.email.or_else(|| remembered.map(ToOwned::to_owned)), ..own }
    }

    fn of_tokens(tokens: &Tokens) -> Identity {
        Identity {
            account_id: tokens.account_id.clone().or_else(|| tokens.claimed_account_id.clone()),
            user_id: tokens.user_id.clone(),
            email: tokens.email.clone(),
        }
    }

    /// The same account id is the same account, unless two persons are known to share it: each member of a team has
    /// limits of their own. The same e-mail is the same account only where an account id is missing.
    pub fn likeness(&self, other: &Identity) -> Option<Likeness> {
        let persons = self.user_id.as_ref().zip(other.user_id.as_ref());
        if persons.is_some_and(|(one, other)| one != other) {
            return None;
        }
        if let Some((one, other)) = self.account_id.as_ref().zip(other.account_id.as_ref()) {
            return (one == other).then_some(Likeness::Account);
        }
        let emails = self.email.as_ref().zip(other.email.as_ref());
        emails.is_some_and(|(one, other)| one.to_lowercase() == other.to_lowercase()).then_some(Likeness::Email)
    }

    /// What a profile of this login is named after.
    pub fn name(&self) -> &str {
        self.email.as_deref().or(self.account_id.as_deref()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_account_or_not() {
        let identity = |account: &str, user: &str, email: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Identity { account_id: some(account), user_id: some(user), email: some(email) }
        };
        let rows = [
            (("a", "", "x@y"), ("a", "", "x@y"), Some(Likeness::Account)),
            (("a", "", "x@y"), ("a", "", "new@y"), Some(Likeness::Account)),
            (("a", "u", "x@y"), ("a", "u", "new@y"), Some(Likeness::Account)),
            (("a", "u", "x@y"), ("a", "v", "z@y"), None),
            (("a", "", "x@y"), ("b", "", "x@y"), None),
            (("a", "u", "x@y"), ("b", "u", "x@y"), None),
            (("", "", "x@y"), ("b", "u", "X@Y"), Some(Likeness::Email)),
            (("", "", "x@y"), ("", "", "x@y"), Some(Likeness::Email)),
            (("", "v", "x@y"), ("b", "u", "x@y"), None),
            (("", "", "x@y"), ("", "", "z@y"), None),
            (("", "", ""), ("", "", ""), None),
            (("a", "u", ""), ("", "u", ""), None),
        ];
        for (one, other, expected) in rows {
            let (one, other) = (identity(one.0, one.1, one.2), identity(other.0, other.1, other.2));
            assert_eq!(one.likeness(&other), expected, "{one:?} {other:?}");
            assert_eq!(other.likeness(&one), expected, "{one:?} {other:?}");
        }
    }
}
