//! `oauth` and `user_choice`: a call that waits for a person.

use crate::{CallId, ChoiceIndex, Fault, HttpUrl, ProviderCallId, ThreadId};
use serde::{Deserialize, Deserializer, Serialize};

/// The user must authorize at a URL; the call stays pending (OAU-01).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "oauth")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "OAuth", transform = schema::oauth))]
#[non_exhaustive]
pub struct OAuth {
    /// The thread of the invocation.
    pub group_id: ThreadId,
    /// The call's id.
    pub id: CallId,
    /// The second id, echoed when it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<ProviderCallId>,
    /// Where the user authorizes: https, loopback excepted (OAU-03).
    auth_url: HttpUrl,
}

impl OAuth {
    /// A request to authorize.
    ///
    /// # Errors
    /// OAU-03: a URL that is neither https nor of a loopback address.
    ///
    /// ```
    /// use rap_types::{CallId, OAuth, ThreadId};
    ///
    /// let (thread, call) = (ThreadId::new("thread-1")?, CallId::new("call-1")?);
    /// let ask = OAuth::new(thread.clone(), call.clone(), "https://accounts.example/authorize?state=x".parse()?)?;
    /// assert!(ask.auth_url().is_https());
    /// let fault = OAuth::new(thread, call, "http://accounts.example/".parse()?).unwrap_err();
    /// assert_eq!(fault.obligation(), "OAU-03");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(group_id: ThreadId, id: CallId, auth_url: HttpUrl) -> Result<Self, Fault> {
        if auth_url.is_https() || auth_url.is_loopback() {
            Ok(Self { group_id, id, call_id: None, auth_url })
        } else {
            Err(Fault::new(
                "/auth_url",
                "OAU-03",
                "the URL is not https; only a loopback address may do without",
            ))
        }
    }

    /// Sets the second id.
    #[must_use]
    pub fn with_call_id(mut self, call_id: Option<ProviderCallId>) -> Self {
        self.call_id = call_id;
        self
    }

    /// Where the user authorizes; not to be kept beyond that (OAU-04).
    pub fn auth_url(&self) -> &HttpUrl {
        &self.auth_url
    }
}

impl<'de> Deserialize<'de> for OAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "OAuth")]
        struct Wire {
            group_id: ThreadId,
            id: CallId,
            #[serde(default)]
            call_id: Option<ProviderCallId>,
            auth_url: HttpUrl,
        }
        let wire = Wire::deserialize(deserializer)?;
        let message = Self::new(wire.group_id, wire.id, wire.auth_url).map_err(Fault::into_error)?;
        Ok(message.with_call_id(wire.call_id))
    }
}

/// The user must choose; the call stays pending (CHO-01).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "user_choice")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "UserChoice", transform = schema::user_choice))]
#[non_exhaustive]
pub struct UserChoice {
    /// The thread of the invocation.
    pub group_id: ThreadId,
    /// The call's id.
    pub id: CallId,
    /// The second id, echoed when it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<ProviderCallId>,
    /// The question.
    #[cfg_attr(feature = "schema", schemars(extend("examples" = ["Deploy to production?"])))]
    pub prompt: String,
    /// What there is to choose from, at least one.
    #[cfg_attr(feature = "schema", schemars(length(min = 1), extend("examples" = [["Yes", "No"]])))]
    choices: Vec<String>,
    /// The place, counted from 0, of the choice that a dismissal picks.
    default: ChoiceIndex,
    /// Where the answer goes.
    pub response_url: HttpUrl,
}

impl UserChoice {
    /// A question with its choices and the index of the default.
    ///
    /// # Errors
    /// CHO-02: no choices, or a default that is not one of them.
    ///
    /// ```
    /// use rap_types::{CallId, ThreadId, UserChoice};
    ///
    /// let url = "http://127.0.0.1:3001/choices/x".parse()?;
    /// let choices = vec!["Yes".to_owned(), "No".to_owned()];
    /// let choice = UserChoice::new(ThreadId::new("thread-1")?, CallId::new("call-1")?, "Deploy?", choices, 1, url)?;
    /// assert_eq!(choice.choice(0), Some("Yes"));
    /// assert_eq!(choice.pick(2).unwrap_err().obligation(), "CHO-03");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(
        group_id: ThreadId,
        id: CallId,
        prompt: impl Into<String>,
        choices: Vec<String>,
        default: impl Into<ChoiceIndex>,
        response_url: HttpUrl,
    ) -> Result<Self, Fault> {
        let default = default.into();
        check_choices(&choices, default)?;
        Ok(Self { group_id, id, call_id: None, prompt: prompt.into(), choices, default, response_url })
    }

    /// Sets the second id.
    #[must_use]
    pub fn with_call_id(mut self, call_id: Option<ProviderCallId>) -> Self {
        self.call_id = call_id;
        self
    }

    /// The choices, at least one.
    pub fn choices(&self) -> &[String] {
        &self.choices
    }

    /// The choice at a place, if there is one (CHO-03).
    pub fn choice(&self, selected: impl Into<ChoiceIndex>) -> Option<&str> {
        selected.into().of(&self.choices).map(String::as_str)
    }

    /// The place as an answer to this very question, where there is a choice (CHO-03).
    ///
    /// # Errors
    /// CHO-03: the question has no choice there.
    pub fn pick(&self, selected: impl Into<ChoiceIndex>) -> Result<ChoiceIndex, Fault> {
        let selected = selected.into();
        if selected.of(&self.choices).is_some() {
            return Ok(selected);
        }
        let message = format!("{selected} is no index of {} choices; count from 0", self.choices.len());
        Err(Fault::new("/selected", "CHO-03", message))
    }

    /// The place of the choice that a dismissal picks.
    pub fn default_index(&self) -> ChoiceIndex {
        self.default
    }
}

fn check_choices(choices: &[String], default: ChoiceIndex) -> Result<(), Fault> {
    if choices.is_empty() {
        return Err(Fault::new("/choices", "CHO-02", "there is no choice"));
    }
    if default.of(choices).is_none() {
        let message = format!("the default {default} is no index of {} choices", choices.len());
        return Err(Fault::new("/default", "CHO-02", message));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for UserChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "UserChoice")]
        struct Wire {
            group_id: ThreadId,
            id: CallId,
            #[serde(default)]
            call_id: Option<ProviderCallId>,
            prompt: String,
            choices: Vec<String>,
            default: ChoiceIndex,
            response_url: HttpUrl,
        }
        let wire = Wire::deserialize(deserializer)?;
        check_choices(&wire.choices, wire.default).map_err(Fault::into_error)?;
        Ok(Self {
            group_id: wire.group_id,
            id: wire.id,
            call_id: wire.call_id,
            prompt: wire.prompt,
            choices: wire.choices,
            default: wire.default,
            response_url: wire.response_url,
        })
    }
}

#[cfg(feature = "schema")]
mod schema {
    use schemars::Schema;

    pub(super) fn oauth(schema: &mut Schema) {
        crate::schema::tag(schema, "oauth");
    }

    pub(super) fn user_choice(schema: &mut Schema) {
        crate::schema::tag(schema, "user_choice");
    }
}
