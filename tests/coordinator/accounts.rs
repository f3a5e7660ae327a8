//! Enrolment, registration, login, sessions.

use proto::{coordinator::Reason, token::EnrolCode};
use vpnd::coordinator::Error;

use crate::house::{House, PASSWORD, directory, name, password, refused, today};

#[tokio::test]
async fn an_enrolment_code_makes_one_account() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let (client, code) = (house.client(), house.enrol().await);
    client.register(&name("anna"), password(PASSWORD), &code).await.unwrap();
    let again = refused(client.register(&name("bert"), password(PASSWORD), &code).await);
    assert!(matches!(again, Error::Refused(Reason::BadCode)), "{again}");
    client.login(&name("anna"), password(PASSWORD)).await.unwrap();
}

#[tokio::test]
async fn a_registration_that_fails_leaves_its_code_good() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    house.account("anna").await;
    let (client, code) = (house.client(), house.enrol().await);
    let taken = refused(client.register(&name("anna"), password("other"), &code).await);
    assert!(matches!(taken, Error::Refused(Reason::NameTaken)), "{taken}");
    client.register(&name("bert"), password(PASSWORD), &code).await.unwrap();
    client.login(&name("anna"), password(PASSWORD)).await.unwrap();
}

#[tokio::test]
async fn registration_is_closed_to_who_has_no_code_or_an_old_one() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let client = house.client();
    let guessed = EnrolCode(vec![7; 16]);
    let refusal = refused(client.register(&name("anna"), password(PASSWORD), &guessed).await);
    assert!(matches!(refusal, Error::Refused(Reason::BadCode)), "{refusal}");
    let old = EnrolCode(vec![8; 16]);
    house.store.add_enrolment(&old, today() - 8).await.unwrap();
    let refusal = refused(client.register(&name("anna"), password(PASSWORD), &old).await);
    assert!(matches!(refusal, Error::Refused(Reason::BadCode)), "{refusal}");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_account_are_refused_alike() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    house.account("anna").await;
    let wrong = refused(house.client().login(&name("anna"), password("guess")).await);
    let unknown = refused(house.client().login(&name("nobody"), password(PASSWORD)).await);
    assert!(matches!(wrong, Error::Refused(Reason::WrongPassword)), "{wrong}");
    assert!(matches!(unknown, Error::Refused(Reason::WrongPassword)), "{unknown}");
}

#[tokio::test]
async fn guessing_is_slowed_down_by_source() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let client = house.client();
    let mut guesses = 0;
    // A slow machine earns a few more guesses while it makes these.
    while guesses < 30 {
        match refused(client.login(&name("anna"), password("guess")).await) {
            Error::Refused(Reason::WrongPassword) => guesses += 1,
            Error::Refused(Reason::TooMany) => break,
            other => panic!("{other}"),
        }
    }
    assert!((10..30).contains(&guesses), "{guesses}");
}

#[tokio::test]
async fn a_session_ends_with_logout_and_with_the_coordinator() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let session = house.account("anna").await;
    let client = house.client();
    assert!(client.networks(&session).await.unwrap().is_empty());
    client.logout(&session).await.unwrap();
    let refusal = refused(client.networks(&session).await);
    assert!(matches!(refusal, Error::LoginNeeded), "{refusal}");

    let session = client.login(&name("anna"), password(PASSWORD)).await.unwrap();
    house.close().await;
    let house = House::open(directory.path()).await;
    let refusal = refused(house.client().networks(&session).await);
    assert!(matches!(refusal, Error::LoginNeeded), "{refusal}");
    house.client().login(&name("anna"), password(PASSWORD)).await.unwrap();
}

#[tokio::test]
async fn one_account_does_not_see_anothers_networks() {
    let directory = directory();
    let house = House::open(directory.path()).await;
    let network = house.network("anna").await;
    let (anna, bert) =
        (house.client().login(&name("anna"), password(PASSWORD)).await.unwrap(), house.account("bert").await);
    assert!(house.client().networks(&anna).await.unwrap() == [network.id()]);
    assert!(house.client().networks(&bert).await.unwrap().is_empty());
}
