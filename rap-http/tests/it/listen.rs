//! "Loopback or authentication", else no listening.

use rap_http::{Auth, Listener};

#[tokio::test]
async fn on_loopback_no_authentication_is_needed() {
    for address in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
        let listener = Listener::bind(address, Auth::None).await.unwrap();
        assert!(listener.is_loopback());
        assert_ne!(listener.local_addr().port(), 0);
    }
}

#[tokio::test]
async fn elsewhere_it_is() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        for auth in [Auth::None, Auth::Bearer(vec![]), Auth::bearer("")] {
            let error = Listener::bind(address, auth).await.unwrap_err();
            assert!(error.to_string().contains("listen on 127.0.0.1 or configure a token"), "{error}");
        }
        for auth in [Auth::bearer("secret"), Auth::InUrl] {
            let listener = Listener::bind(address, auth).await.unwrap();
            assert!(!listener.is_loopback());
            assert!(!format!("{listener:?}").contains("secret"));
        }
    }
}

/// With a token that nobody can send it would only look as if it served.
#[tokio::test]
async fn a_token_that_fits_no_header() {
    for (token, says) in [("hunter2\n", "trim it"), (" hunter2", "trim it"), ("hunter2ä", "signs of ASCII")]
    {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let error = Listener::bind(address, Auth::bearer(token)).await.unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("hunter"), "{error}");
        }
    }
    let error = Listener::bind("127.0.0.1:0", Auth::bearer("")).await.unwrap_err();
    assert!(error.to_string().contains("the bearer token is empty"), "{error}");
}

#[tokio::test]
async fn a_taken_port_says_what_to_do() {
    let first = Listener::bind("127.0.0.1:0", Auth::None).await.unwrap();
    let address = first.local_addr().to_string();
    let error = Listener::bind(&address, Auth::None).await.unwrap_err();
    assert!(error.is_in_use());
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on {address}: another program has this port; stop it, or choose another port (0 picks a free one)"
        )
    );
}

#[tokio::test]
async fn nonsense_says_what_to_do() {
    for address in ["", "127.0.0.1", "127.0.0.1:99999", "nowhere"] {
        let error = Listener::bind(address, Auth::None).await.unwrap_err();
        assert!(error.to_string().contains("e.g. 127.0.0.1:3001"), "{error}");
    }
    let error = Listener::bind("203.0.113.1:0", Auth::bearer("x")).await.unwrap_err();
    assert!(error.to_string().contains("no such address"), "{error}");
}
