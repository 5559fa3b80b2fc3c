// Classifies pictures for somebody with an account; the token is renewed before it is over. Needs no other module.
//
//	PINHOLE_USERNAME=ada PINHOLE_PASSWORD=... go run examples/classify.go cat.jpg dog.jpg
//
// PINHOLE_URL is where Pinhole is: http://localhost:8000 without it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const early = time.Minute // a token is renewed that long before it is over

// session is somebody who has signed in.
type session struct {
	url          string
	accessToken  string
	refreshToken string
	renewAt      time.Time
}

// get asks for tokens, and keeps them.
func (s *session) get(form url.Values) error {
	request, err := http.NewRequest(http.MethodPost, s.url+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var tokens struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		ExpiresIn    int    `json:"expires_in"`
	}
	if err := answer(request, &tokens); err != nil {
		return err
	}
	s.accessToken, s.refreshToken = tokens.AccessToken, tokens.RefreshToken
	s.renewAt = time.Now().Add(time.Duration(tokens.ExpiresIn)*time.Second - early)
	return nil
}

// prediction is what is read of the answer for a picture.
type prediction struct {
	Label string
	Score float64
}

// classify returns the likeliest class of a picture in a file.
func (s *session) classify(path string) (best prediction, err error) {
	if time.Now().After(s.renewAt) {
		// Each refresh token is good once: the next one comes with the answer.
		if err := s.get(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.refreshToken}}); err != nil {
			return best, err
		}
	}
	picture, err := os.ReadFile(path)
	if err != nil {
		return best, err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", filepath.Base(path))
	if err != nil {
		return best, err
	}
	part.Write(picture) // to memory: never fails
	form.Close()
	request, err := http.NewRequest(http.MethodPost, s.url+"/predict", &body)
	if err != nil {
		return best, err
	}
	request.Header.Set("Authorization", "Bearer "+s.accessToken)
	request.Header.Set("Content-Type", form.FormDataContentType())
	err = answer(request, &best)
	return best, err
}

// answer sends a request and reads its answer into value; one that is refused is an error with the reason.
func answer(request *http.Request, value any) error {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	return json.Unmarshal(body, value)
}

func run() error {
	s := session{url: os.Getenv("PINHOLE_URL")}
	if s.url == "" {
		s.url = "http://localhost:8000"
	}
	form := url.Values{"grant_type": {"password"}}
	form.Set("username", os.Getenv("PINHOLE_USERNAME"))
	form.Set("password", os.Getenv("PINHOLE_PASSWORD"))
	if err := s.get(form); err != nil {
		return err
	}
	for _, path := range os.Args[1:] {
		best, err := s.classify(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Printf("%s\t%s\t%.3f\n", path, best.Label, best.Score)
	}
	return nil
}

func main() {
	http.DefaultClient.Timeout = 30 * time.Second
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
