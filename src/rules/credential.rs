//! How long a credential is used, and when it is replaced by a new one.
//!
//! A key lasts. A token (JWT) has an end in its claims, and is replaced in time: in the background after half of its life, and on
//! demand shortly before its end. The claims are not verified; that is up to the service.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// With less time left than this, a token is replaced before it is used (Python client: 60 s).
const DEMAND: Duration = Duration::from_secs(60);

/// The time between two attempts to replace a token that still lives (Python client: 60 s).
const RETRY: Duration = Duration::from_secs(60);

/// A new token is used for at least this long, whatever its claims say: otherwise one that is short-lived would cost a request
/// for each request.
const MIN_USE: Duration = Duration::from_secs(5);

/// The claims of a token that are used here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claims {
    /// Seconds since 1970.
    pub(crate) expires: Option<f64>,
    /// Seconds since 1970.
    pub(crate) issued: Option<f64>,
    /// `sub`: the user.
    pub(crate) subject: Option<String>,
    /// `org_id`.
    pub(crate) organization: Option<String>,
    pub(crate) email: Option<String>,
}

impl Claims {
    /// The claims of a JWT; `None` if the text is none.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !header.starts_with("eyJ") {
            return None;
        }
        let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        let claims: Map<String, Value> = serde_json::from_slice(&payload).ok()?;
        let seconds = |name: &str| {
            let value = claims.get(name)?;
            value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|seconds| seconds.is_finite())
        };
        let text = |name: &str| claims.get(name)?.as_str().map(str::to_owned);
        Some(Claims {
            expires: seconds("exp"),
            issued: seconds("iat"),
            subject: text("sub"),
            organization: text("org_id"),
            email: text("email"),
        })
    }

    /// The time between issue and end.
    fn lifetime(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.expires? - self.issued?).ok().filter(|lifetime| !lifetime.is_zero())
    }

    /// The time left by the wall clock, zero if the end has passed.
    fn left(&self, wall: SystemTime) -> Option<Duration> {
        let now = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.expires.map(|expires| Duration::try_from_secs_f64(expires - now).unwrap_or_default())
    }

    /// Whether the end has passed by the wall clock.
    pub(crate) fn has_expired(&self, wall: SystemTime) -> bool {
        self.left(wall).is_some_and(|left| left.is_zero())
    }
}

/// When a token is replaced, and when it ends. By the monotonic clock: the wall clock of a machine may be wrong, or jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// In the background.
    renew_at: Instant,
    /// Before the next request.
    demand_at: Instant,
    end: Instant,
}

impl Life {
    /// The life of a token that was received just now; `None` if the claims do not limit it. `jitter` is a random number in 0..1.
    ///
    /// The wall clock counts only if it makes sense with the claims: an end that is past, or further away than the whole life of
    /// the token, shows that this machine's clock is wrong.
    pub(crate) fn of_new(claims: &Claims, now: Instant, wall: SystemTime, jitter: f64) -> Option<Self> {
        let (left, lifetime) = (claims.left(wall), claims.lifetime());
        let plausible = left.filter(|left| !left.is_zero() && lifetime.is_none_or(|lifetime| *left <= lifetime));
        let left = plausible.or(lifetime)?;
        // A year is for ever, and can be added to an instant.
        let left = left.clamp(MIN_USE, Duration::from_secs(365 * 24 * 3600));
        let renew_after = left.mul_f64(0.5 * (0.9 + 0.2 * jitter)).max(MIN_USE);
        let demand_after = left.saturating_sub(DEMAND.min(left / 2)).max(MIN_USE);
        Some(Life { renew_at: now + renew_after, demand_at: now + demand_after, end: now + left })
    }
}

/// What is known of the credential that a request needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// `None` if it lasts.
    pub(crate) life: Option<Life>,
    /// Not before then is a living credential replaced, since the last attempt failed.
    pub(crate) retry_at: Option<Instant>,
}

/// What to do before a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Use the credential.
    Use,
    /// Try to get a new one; if that fails, use this one.
    Replace,
    /// Get a new one.
    Obtain,
    /// Wait until another thread has got one.
    Wait,
}

/// Decides what to do for a request. `is_obtaining`: another thread is getting a new credential.
pub(crate) fn before_request(held: Option<Held>, is_obtaining: bool, now: Instant) -> Step {
    let needed = if is_obtaining { Step::Wait } else { Step::Obtain };
    let Some(held) = held else { return needed };
    match held.life {
        Some(life) if life.end <= now => needed,
        Some(life) if life.demand_at <= now && !is_obtaining && is_due(held.retry_at, now) => Step::Replace,
        _ => Step::Use,
    }
}

/// When a credential is replaced in the background; `None` if it lasts.
pub(crate) fn renew_at(held: Held) -> Option<Instant> {
    let life = held.life?;
    Some(held.retry_at.map_or(life.renew_at, |retry_at| retry_at.max(life.renew_at)))
}

/// When to try again after a failure.
pub(crate) fn retry_at(now: Instant) -> Instant {
    now + RETRY
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_none_or(|at| at <= now)
}

/// Whether a 401 with this `WWW-Authenticate` says that the token is at fault rather than the user, so that a new one helps.
pub(crate) fn is_invalid_token(www_authenticate: Option<&str>) -> bool {
    www_authenticate.is_some_and(|value| value.contains(r#"error="invalid_token""#))
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::super::testing::{golden_2026, list, start};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wall(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn claims(issued: f64, expires: f64) -> Claims {
        Claims { issued: Some(issued), expires: Some(expires), ..Claims::default() }
    }

    #[test]
    fn claims_match_the_fixture() {
        for case in list(&golden_2026("pure_misc")["jwt"]) {
            let jwt = case["jwt"].as_str().unwrap();
            // 0.38.0 reads the claims of anything with a dot; here the header must be that of a JWT.
            let read = Claims::read(jwt).filter(|_| jwt.starts_with("eyJ"));
            let out = &case["claims"]["out"];
            assert_eq!(read.is_some(), out.is_object() && jwt.starts_with("eyJ"), "{jwt}");
            let Some(read) = read else { continue };
            assert_eq!(read.expires, case["expiry"]["out"].as_f64(), "{jwt}");
            assert_eq!(read.lifetime().map(|life| life.as_secs_f64()), case["lifetime"]["out"].as_f64(), "{jwt}");
            assert_eq!(read.subject.as_deref(), out["sub"].as_str());
            assert_eq!(read.organization.as_deref(), out["org_id"].as_str());
            assert_eq!(read.email.as_deref(), out["email"].as_str());
        }
        // {"exp":"10","iat":5}
        assert_eq!(Claims::read("eyJ.eyJleHAiOiIxMCIsImlhdCI6NX0.s"), Some(claims(5.0, 10.0)));
        assert_eq!(Claims::read("tml-key"), None);
    }

    #[test]
    fn an_hour_is_renewed_after_half() {
        let t0 = start();
        let life = Life::of_new(&claims(1000.0, 4600.0), t0, wall(1000), 0.5).unwrap();
        assert_eq!(life, Life { renew_at: t0 + seconds(1800), demand_at: t0 + seconds(3540), end: t0 + seconds(3600) });
        for (jitter, after) in [(0.0, 1620), (1.0, 1980)] {
            let life = Life::of_new(&claims(1000.0, 4600.0), t0, wall(1000), jitter).unwrap();
            assert_eq!(life.renew_at.duration_since(t0).as_secs(), after);
        }
        // Issued half an hour ago.
        let old = Life::of_new(&claims(1000.0, 4600.0), t0, wall(2800), 0.5).unwrap();
        assert_eq!(old.end, t0 + seconds(1800));
    }

    #[test]
    fn a_wrong_wall_clock_does_not_count() {
        let t0 = start();
        for now in [0, 999, 4600, 1_000_000] {
            let life = Life::of_new(&claims(1000.0, 4600.0), t0, wall(now), 0.5).unwrap();
            assert_eq!(life.end, t0 + seconds(3600), "{now}");
        }
        assert_eq!(Life::of_new(&Claims::default(), t0, wall(0), 0.5), None);
        assert!(claims(0.0, 10.0).has_expired(wall(10)) && !claims(0.0, 11.0).has_expired(wall(10)));
    }

    #[test]
    fn a_living_token_is_replaced_at_its_end() {
        let t0 = start();
        let life = Life::of_new(&claims(0.0, 3600.0), t0, wall(0), 0.5);
        let held = |retry_at: Option<u64>| Some(Held { life, retry_at: retry_at.map(|after| t0 + seconds(after)) });
        for (held, is_obtaining, at, expected) in [
            (None, false, 0, Step::Obtain),
            (None, true, 0, Step::Wait),
            (held(None), false, 3539, Step::Use),
            (held(None), false, 3540, Step::Replace),
            (held(None), true, 3540, Step::Use),
            (held(Some(3550)), false, 3549, Step::Use),
            (held(Some(3550)), false, 3550, Step::Replace),
            (held(None), false, 3600, Step::Obtain),
            (held(Some(4000)), false, 3600, Step::Obtain),
            (held(None), true, 3600, Step::Wait),
            (Some(Held { life: None, retry_at: None }), false, 1_000_000, Step::Use),
        ] {
            assert_eq!(before_request(held, is_obtaining, t0 + seconds(at)), expected, "at {at} s");
        }
        assert_eq!(held(None).and_then(renew_at), Some(t0 + seconds(1800)));
        assert_eq!(held(Some(1860)).and_then(renew_at), Some(t0 + seconds(1860)));
    }

    #[test]
    fn only_the_token_may_be_at_fault() {
        for (header, expected) in [
            (None, false),
            (Some(r#"Bearer realm="tinker""#), false),
            (Some(r#"Bearer error="invalid_token""#), true),
            (Some(r#"Bearer realm="x", error="invalid_token", error_description="expired""#), true),
            (Some(r#"Bearer error="insufficient_scope""#), false),
        ] {
            assert_eq!(is_invalid_token(header), expected, "{header:?}");
        }
    }

    quickcheck! {
        /// One request each second for an hour, with tokens of any life and a clock that is wrong by any amount.
        fn tokens_cost_few_requests(life: u16, skew: u16) -> bool {
            let t0 = start();
            // A clock that is ahead by less than the life shortens it.
            let used = if skew < life { life - skew } else { life };
            let (mut held, mut exchanges): (Option<Held>, u32) = (None, 0);
            for second in 0..3600_u32 {
                let now = t0 + SECOND * second;
                if before_request(held, false, now) != Step::Use {
                    let issued = f64::from(second);
                    let claims = claims(issued, issued + f64::from(life));
                    let wall = wall(u64::from(second) + u64::from(skew));
                    held = Some(Held { life: Life::of_new(&claims, now, wall, 0.5), retry_at: None });
                    exchanges += 1;
                }
            }
            exchanges <= 3600 / 5 && (used < 120 || exchanges <= 1 + 3600 / 60)
        }
    }
}
