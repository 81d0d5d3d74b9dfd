package server

import "testing"

// Package wire tests its parser; this is what the server refuses on top.
func TestClientIDMustBeText(t *testing.T) {
	for id, ok := range map[string]bool{"": true, "me": true, "\xff": false, "caf\xc3\xa9": true, "caf\xc3": false} {
		frame := append([]byte("\x00\x03\x00\x01\x00\x00\x00\x01\x00"), byte(len(id)))
		if _, _, err := parseHeader(append(frame, id...)); (err == nil) != ok {
			t.Errorf("client id %q: %v", id, err)
		}
	}
}
