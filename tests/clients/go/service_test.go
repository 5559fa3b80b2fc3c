package clients

import (
	"context"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// ways are how a client may be registered to prove itself, and the styles that x/oauth2 has for each.
var ways = map[string][]oauth2.AuthStyle{
	"BASIC": {oauth2.AuthStyleInHeader, oauth2.AuthStyleAutoDetect},
	"POST":  {oauth2.AuthStyleInParams, oauth2.AuthStyleAutoDetect},
}

func service(ctx context.Context, t *testing.T, way string, style oauth2.AuthStyle) clientcredentials.Config {
	t.Helper()
	return clientcredentials.Config{
		ClientID:     setting(t, way+"_ID"),
		ClientSecret: setting(t, way+"_SECRET"),
		TokenURL:     discovered(ctx, t).Endpoint().TokenURL,
		AuthStyle:    style,
	}
}

func TestServiceGetsTokensOfItsOwn(t *testing.T) {
	ctx := within(t)
	for way, styles := range ways {
		for _, style := range styles {
			config := service(ctx, t, way, style)
			expectStatus(t, config.Client(ctx), "/users", 200)
		}
	}
}

func TestServiceIsRefusedAScopeThatItLacks(t *testing.T) {
	ctx := within(t)
	config := service(ctx, t, "BASIC", oauth2.AuthStyleInHeader)
	config.Scopes = []string{"users:write"}
	_, err := config.Token(ctx)
	expectRefusal(t, err, 400, "invalid_scope")
}

func TestServiceWithAWrongSecretIsInvalidClient(t *testing.T) {
	ctx := within(t)
	for way, styles := range ways {
		for _, style := range styles {
			config := service(ctx, t, way, style)
			config.ClientSecret = "not the secret"
			_, err := config.Token(ctx)
			expectRefusal(t, err, 401, "invalid_client")
		}
	}
}

func TestServiceThatProvesItselfInAnotherWayIsInvalidClient(t *testing.T) {
	ctx := within(t)
	for way, style := range map[string]oauth2.AuthStyle{"BASIC": oauth2.AuthStyleInParams, "POST": oauth2.AuthStyleInHeader} {
		config := service(ctx, t, way, style)
		_, err := config.Token(ctx)
		expectRefusal(t, err, 401, "invalid_client")
	}
}
