use std::net::{IpAddr, Ipv4Addr};

use bivouac_protocol::ticket::{Claims, SigningKey, sign};
use bivouac_protocol::{RoutePhase, Rules as TrafficRules, Span};
use secrecy::ExposeSecret;

use super::*;
use crate::testing::Camp;

const HOST: &str = "aaaaaaaaaaaaaaaaaaaa.localhost:7080";

/// One session that wants tickets, and who judges its requests.
struct Door {
    camp: Camp,
    access: Arc<Access>,
    key: SigningKey,
}

fn signing_key(letter: &str) -> SigningKey {
    SigningKey::of_secret(&letter.repeat(40).into()).unwrap()
}

impl Door {
    async fn new(rule: Rule) -> Self {
        let camp = Camp::new();
        let key = signing_key("k");
        let tickets = Tickets::new(camp.wire.clone());
        tickets.vouch(&[key.public().clone()], Timestamp::now()).await.unwrap();
        let rules = TrafficRules { access: rule, ..TrafficRules::default() };
        assert!(camp.routes.push(Route { rules, ..camp.route(1, RoutePhase::Ready) }));
        let access = camp.admission.access().clone();
        access.learn().await;
        Self { camp, access, key }
    }

    fn claims(&self, kind: Use) -> Claims {
        let user = Some("ann".to_owned());
        Claims { sub: user, ..Claims::new(&self.camp.id, kind, Timestamp::now(), Span::seconds(60)) }
    }

    fn text(&self, claims: &Claims) -> String {
        sign(claims, &self.key).unwrap().expose_secret().to_owned()
    }

    async fn ask(&self, secure: bool, path: &str, fields: &[(&'static str, &str)]) -> Result<Pass, Refusal> {
        let method = if fields.iter().any(|(name, _)| *name == ":post") { "POST" } else { "GET" };
        let mut head = RequestHeader::build(method, path.as_bytes(), None).unwrap();
        head.append_header("host", HOST).unwrap();
        for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with(':')) {
            head.append_header(*name, *value).unwrap();
        }
        let plan = head::check(&head, b"").unwrap();
        let nobody = IpAddr::from(Ipv4Addr::LOCALHOST);
        let visitor = Visitor::new(nobody, secure, &Arc::default());
        let target = Target { session: self.camp.id.clone(), port: None };
        self.access.enter(&target, &head, &plan, &visitor).await
    }

    async fn enters(&self, path: &str, fields: &[(&'static str, &str)]) -> Grant {
        match self.ask(false, path, fields).await {
            Ok(Pass::Enter(grant)) => grant,
            other => panic!("{fields:?}: {other:?}"),
        }
    }

    async fn refused(&self, path: &str, fields: &[(&'static str, &str)]) -> &'static str {
        match self.ask(false, path, fields).await {
            Err(refusal) => refusal.code(),
            Ok(pass) => panic!("{fields:?}: {pass:?}"),
        }
    }

    /// Follows a link; the cookie and where it leads.
    async fn swaps(&self, secure: bool, path: &str) -> (String, String) {
        match self.ask(secure, path, &[("accept", "text/html")]).await {
            Ok(Pass::Swap(Swap { location, set_cookie })) => {
                let cookie = set_cookie.split(';').next().unwrap().to_owned();
                (cookie, String::from_utf8(location).unwrap())
            }
            other => panic!("{path}: {other:?}"),
        }
    }
}

fn bearer(text: &str) -> String {
    format!("Bearer {text}")
}

const WEBSOCKET: [(&str, &str); 2] = [("upgrade", "websocket"), ("connection", "Upgrade")];

#[tokio::test]
async fn a_ticket_is_shown_in_four_ways() {
    let door = Door::new(Rule::Ticket).await;
    let ticket = door.text(&door.claims(Use::Bearer));
    let grant = door.enters("/", &[("authorization", &bearer(&ticket))]).await;
    assert_eq!(grant.user.as_deref(), Some("ann"));
    assert!(grant.ticketed && grant.strip.authorization);
    let offered = format!("bivouac.v1, chat, bivouac.ticket.{ticket}");
    let fields = [&WEBSOCKET[..], &[("sec-websocket-protocol", offered.as_str())]].concat();
    let grant = door.enters("/", &fields).await;
    assert_eq!(grant.strip.protocols.as_deref(), Some(b"chat".as_slice()));
    let link = door.text(&door.claims(Use::Enter));
    let (cookie, location) = door.swaps(false, &format!("/a?x=1&bivouac_ticket={link}")).await;
    assert_eq!(location, "/a?x=1");
    assert_eq!(door.enters("/", &[("cookie", &cookie)]).await.user.as_deref(), Some("ann"));
}

#[tokio::test]
async fn every_wrong_one_has_its_code() {
    let door = Door::new(Rule::Ticket).await;
    let (good, link) = (door.claims(Use::Bearer), door.claims(Use::Enter));
    let shown = |claims: &Claims| bearer(&door.text(claims));
    let past = Claims { exp: Timestamp::now().as_second(), ..good.clone() };
    let other = Claims { aud: SessionId::random(), ..good.clone() };
    let foreign = bearer(sign(&good, &signing_key("f")).unwrap().expose_secret());
    let whole = shown(&good);
    for (authorization, code) in [
        (shown(&past), "ticket_expired"),
        (shown(&other), "ticket_wrong_session"),
        (foreign, "ticket_invalid"),
        (shown(&link), "ticket_misplaced"),
        (whole[..whole.len() - 10].to_owned(), "ticket_invalid"),
        (format!("{whole}{}", "a".repeat(5000)), "ticket_invalid"),
        (bearer("opaque"), "ticket_missing"),
    ] {
        assert_eq!(door.refused("/", &[("authorization", &authorization)]).await, code, "{authorization}");
    }
    assert_eq!(door.refused("/", &[]).await, "ticket_missing");
    let untagged = format!("bivouac={}", door.text(&link));
    assert_eq!(door.refused("/", &[("cookie", &untagged)]).await, "ticket_misplaced");
    let forged = format!("{untagged}~AAAA");
    assert_eq!(door.refused("/", &[("cookie", &forged)]).await, "ticket_invalid");
    let in_url = format!("/?bivouac_ticket={}", door.text(&good));
    assert_eq!(door.refused(&in_url, &[("accept", "text/html")]).await, "ticket_misplaced");
}

#[tokio::test]
async fn a_link_is_good_once_for_a_minute_and_for_people() {
    let door = Door::new(Rule::Ticket).await;
    let path = |claims: &Claims| format!("/?bivouac_ticket={}", door.text(claims));
    let link = path(&door.claims(Use::Enter));
    assert_eq!(door.refused(&link, &[]).await, "ticket_misplaced", "a preview does not use it up");
    assert_eq!(door.refused(&link, &[(":post", ""), ("accept", "text/html")]).await, "ticket_misplaced");
    door.swaps(false, &link).await;
    assert_eq!(door.refused(&link, &[("accept", "text/html")]).await, "ticket_used");
    let old = Claims { iat_ms: door.claims(Use::Enter).iat_ms - 61_000, ..door.claims(Use::Enter) };
    assert_eq!(door.refused(&path(&old), &[("accept", "text/html")]).await, "ticket_expired");
    // Used on another proxy.
    let elsewhere = door.claims(Use::Enter);
    Tickets::new(door.camp.wire.clone()).use_once(&elsewhere.jti, elsewhere.expires_at()).await.unwrap();
    assert_eq!(door.refused(&path(&elsewhere), &[("accept", "text/html")]).await, "ticket_used");
    // The ledger is away.
    door.camp.cut_wire(true);
    let alone = path(&door.claims(Use::Enter));
    door.swaps(false, &alone).await;
    assert_eq!(door.refused(&alone, &[("accept", "text/html")]).await, "ticket_used");
}

#[tokio::test]
async fn a_link_leads_to_its_own_host_and_with_tls_to_a_host_cookie() {
    let door = Door::new(Rule::Ticket).await;
    let link = format!("//evil.example/?bivouac_ticket={}", door.text(&door.claims(Use::Enter)));
    let (cookie, location) = door.swaps(true, &link).await;
    assert_eq!(location, "/.//evil.example/");
    assert!(cookie.starts_with("__Host-bivouac="));
    let Ok(Pass::Enter(_)) = door.ask(true, "/", &[("cookie", &cookie)]).await else {
        panic!("it is let in")
    };
    let plain = cookie.replace("__Host-", "");
    assert!(matches!(door.ask(true, "/", &[("cookie", &plain)]).await, Err(Refusal::TicketMissing)));
}

#[tokio::test]
async fn neighbours_do_not_act_in_a_users_name() {
    let door = Door::new(Rule::Ticket).await;
    let link = format!("/?bivouac_ticket={}", door.text(&door.claims(Use::Enter)));
    let (cookie, _) = door.swaps(false, &link).await;
    let cookie = ("cookie", cookie.as_str());
    let sibling = ("origin", "http://bbbbbbbbbbbbbbbbbbbb.localhost:7080");
    assert_eq!(door.refused("/", &[cookie, sibling]).await, "origin_refused");
    assert_eq!(
        door.refused("/", &[cookie, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]).await,
        "origin_refused"
    );
    let socket = [&WEBSOCKET[..], &[cookie, sibling]].concat();
    assert_eq!(door.refused("/", &socket).await, "origin_refused");
    let ticket = bearer(&door.text(&door.claims(Use::Bearer)));
    let socket = [&WEBSOCKET[..], &[("authorization", ticket.as_str()), sibling]].concat();
    assert_eq!(door.refused("/", &socket).await, "origin_refused");
    let own = ("origin", "http://aaaaaaaaaaaaaaaaaaaa.localhost:7080");
    door.enters("/", &[&WEBSOCKET[..], &[cookie, own]].concat()).await;
}

#[tokio::test]
async fn a_revocation_is_for_a_user_or_for_all_and_for_what_was_issued_before() {
    let door = Door::new(Rule::Ticket).await;
    let claims = door.claims(Use::Bearer);
    let show = bearer(&door.text(&claims));
    let grant = door.enters("/", &[("authorization", &show)]).await;
    let revoke = |user: Option<&str>, until_ms| {
        let session = door.camp.id.clone();
        door.access.revoke(&Revocation { session, user: user.map(str::to_owned), until_ms });
    };
    revoke(Some("bob"), claims.iat_ms);
    revoke(Some("ann"), claims.iat_ms - 1);
    assert!(!door.access.is_revoked(&door.camp.id, &grant));
    revoke(Some("ann"), claims.iat_ms);
    assert!(door.access.is_revoked(&door.camp.id, &grant));
    let route = door.camp.route(1, RoutePhase::Ready);
    let held_meanwhile = door.access.lets_in(&route, &grant);
    assert_eq!(held_meanwhile, Err(Refusal::TicketRevoked));
    assert_eq!(door.refused("/", &[("authorization", &show)]).await, "ticket_revoked");
    let later = Claims { iat_ms: claims.iat_ms + 1, ..claims };
    let show = bearer(&door.text(&later));
    door.enters("/", &[("authorization", &show)]).await;
    revoke(None, later.iat_ms);
    assert_eq!(door.refused("/", &[("authorization", &show)]).await, "ticket_revoked");
}

#[tokio::test]
async fn what_is_public_is_open_and_what_is_ours_is_taken_out_all_the_same() {
    let door = Door::new(Rule::Public).await;
    let grant = door.enters("/", &[]).await;
    assert!(!grant.ticketed && grant.strip.target.is_none());
    let grant = door.enters("/?bivouac_ticket=x&y=1", &[("cookie", "bivouac=x")]).await;
    assert_eq!(grant.strip.target.as_deref(), Some(b"/?y=1".as_slice()));
    let ticket = bearer(&door.text(&door.claims(Use::Bearer)));
    assert_eq!(door.enters("/", &[("authorization", &ticket)]).await.user.as_deref(), Some("ann"));
}

#[tokio::test]
async fn a_session_that_is_not_there_is_not_there_with_or_without_a_cookie() {
    let door = Door::new(Rule::Public).await;
    let mut camp = Camp::new();
    camp.id = SessionId::random();
    let nowhere = Door { access: door.access.clone(), camp, key: signing_key("k") };
    assert_eq!(nowhere.refused("/", &[]).await, "session_unknown");
    door.camp.cut_wire(true);
    assert_eq!(nowhere.refused("/", &[]).await, "session_unresolvable");
    assert_eq!(door.camp.table.len(), 1, "nobody leaves a trace by asking");
}

#[tokio::test]
async fn a_key_that_is_new_is_asked_for() {
    let door = Door::new(Rule::Ticket).await;
    let next = signing_key("n");
    Tickets::new(door.camp.wire.clone()).vouch(&[next.public().clone()], Timestamp::now()).await.unwrap();
    let ticket = sign(&door.claims(Use::Bearer), &next).unwrap();
    door.enters("/", &[("authorization", &bearer(ticket.expose_secret()))]).await;
}

#[tokio::test]
async fn a_route_has_the_last_word() {
    let door = Door::new(Rule::Ticket).await;
    let rules = TrafficRules { access: Rule::Ticket, ..TrafficRules::default() };
    let route = Route { rules, ..door.camp.route(2, RoutePhase::Ready) };
    assert_eq!(door.access.lets_in(&route, &Grant::default()), Err(Refusal::TicketMissing));
    assert_eq!(door.access.lets_in(&route, &Grant { ticketed: true, ..Grant::default() }), Ok(()));
    assert_eq!(door.access.lets_in(&door.camp.route(2, RoutePhase::Ready), &Grant::default()), Ok(()));
}
