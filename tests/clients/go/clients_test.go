// Package clients drives Pinhole with the clients that Go programs use. pytest starts the product and these tests.
package clients

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

func setting(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv("PINHOLE_" + name)
	if value == "" {
		t.Fatalf("PINHOLE_%s is not set", name)
	}
	return value
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// discovered is the product as its metadata describe it.
func discovered(ctx context.Context, t *testing.T) *oidc.Provider {
	t.Helper()
	provider, err := oidc.NewProvider(ctx, setting(t, "URL"))
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

func person(ctx context.Context, t *testing.T, scopes ...string) oauth2.Config {
	t.Helper()
	return oauth2.Config{ClientID: "pinhole-web", Endpoint: discovered(ctx, t).Endpoint(), Scopes: scopes}
}

func signIn(ctx context.Context, t *testing.T, config oauth2.Config) *oauth2.Token {
	t.Helper()
	token, err := config.PasswordCredentialsToken(ctx, setting(t, "USERNAME"), setting(t, "PASSWORD"))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// expectRefusal checks the code of RFC 6749 section 5.2 that the library has read.
func expectRefusal(t *testing.T, err error, status int, code string) {
	t.Helper()
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		t.Fatalf("expected %s, got %v", code, err)
	}
	if refused.Response.StatusCode != status || refused.ErrorCode != code || refused.ErrorDescription == "" {
		t.Fatalf("expected %d %s, got %v", status, code, refused)
	}
}

func expectStatus(t *testing.T, client *http.Client, path string, status int) *http.Response {
	t.Helper()
	response, err := client.Get(setting(t, "URL") + path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != status {
		t.Fatalf("%s: expected %d, got %d", path, status, response.StatusCode)
	}
	return response
}

func TestPasswordOpensTheAccount(t *testing.T) {
	ctx := within(t)
	config := person(ctx, t, "profile")
	token := signIn(ctx, t, config)
	if token.Extra("scope") != "profile" || token.TokenType != "Bearer" || !token.Valid() {
		t.Fatalf("the token is not as asked for: scope %v", token.Extra("scope"))
	}
	var account struct{ Username string }
	body := expectStatus(t, config.Client(ctx, token), "/users/me", 200).Body
	if err := json.NewDecoder(body).Decode(&account); err != nil || account.Username != setting(t, "USERNAME") {
		t.Fatalf("expected our account, got %q, %v", account.Username, err)
	}
}

func TestWrongPasswordIsInvalidGrant(t *testing.T) {
	ctx := within(t)
	config := person(ctx, t)
	_, err := config.PasswordCredentialsToken(ctx, setting(t, "USERNAME"), "not the password")
	expectRefusal(t, err, 400, "invalid_grant")
}

func TestUnknownScopeIsInvalidScope(t *testing.T) {
	ctx := within(t)
	config := person(ctx, t, "nothing:at-all")
	_, err := config.PasswordCredentialsToken(ctx, setting(t, "USERNAME"), setting(t, "PASSWORD"))
	expectRefusal(t, err, 400, "invalid_scope")
}

func TestUnknownClientIsInvalidClient(t *testing.T) {
	ctx := within(t)
	config := person(ctx, t)
	config.ClientID = "nobody"
	config.ClientSecret = "nothing"
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams, oauth2.AuthStyleAutoDetect} {
		config.Endpoint.AuthStyle = style
		_, err := config.PasswordCredentialsToken(ctx, setting(t, "USERNAME"), setting(t, "PASSWORD"))
		expectRefusal(t, err, 401, "invalid_client")
	}
}

func TestExpiredTokenIsRefreshedUnasked(t *testing.T) {
	ctx := within(t)
	config := person(ctx, t)
	first := signIn(ctx, t, config)
	expired := *first
	expired.Expiry = time.Now().Add(-time.Minute)
	source := config.TokenSource(ctx, &expired)
	expectStatus(t, oauth2.NewClient(ctx, source), "/users/me", 200)
	second, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	if second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
		t.Fatal("the tokens are the old ones")
	}
}

func TestRefreshTokenThatWasUsedTwiceOverIsInvalidGrant(t *testing.T) {
	ctx := within(t)
	config := person(ctx, t)
	first := signIn(ctx, t, config)
	second, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: first.RefreshToken}).Token()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = config.TokenSource(ctx, &oauth2.Token{RefreshToken: second.RefreshToken}).Token(); err != nil {
		t.Fatal(err)
	}
	_, err = config.TokenSource(ctx, &oauth2.Token{RefreshToken: first.RefreshToken}).Token()
	expectRefusal(t, err, 400, "invalid_grant")
}

func TestScopeThatIsMissingIs403(t *testing.T) {
	ctx := within(t)
	config := person(ctx, t)
	response := expectStatus(t, config.Client(ctx, signIn(ctx, t, config)), "/users", 403)
	if !strings.Contains(response.Header.Get("WWW-Authenticate"), "insufficient_scope") {
		t.Fatal(response.Header)
	}
}

func TestAccessTokenVerifiesWithThePublishedKeys(t *testing.T) {
	ctx := within(t)
	token := signIn(ctx, t, person(ctx, t))
	verified, err := discovered(ctx, t).Verifier(&oidc.Config{ClientID: "pinhole"}).Verify(ctx, token.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	if verified.Issuer != setting(t, "URL") || verified.Subject == "" || time.Until(verified.Expiry) <= 0 {
		t.Fatalf("%+v", verified)
	}
}

func TestChangedAccessTokenDoesNotVerify(t *testing.T) {
	ctx := within(t)
	token := signIn(ctx, t, person(ctx, t)).AccessToken
	verifier := discovered(ctx, t).Verifier(&oidc.Config{ClientID: "pinhole"})
	signature := strings.LastIndex(token, ".") + 1
	if _, err := verifier.Verify(ctx, token[:signature]+strings.Repeat("A", len(token)-signature)); err == nil {
		t.Fatal("a changed token was taken")
	}
	if _, err := discovered(ctx, t).Verifier(&oidc.Config{ClientID: "another"}).Verify(ctx, token); err == nil {
		t.Fatal("a token for another audience was taken")
	}
}
