package agent

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"
)

// ExpiryRequest moves the time at which the machine powers itself off, whatever
// becomes of its controller and its agent.
type ExpiryRequest struct {
	At time.Time `json:"at"`
}

func (s *server) postExpiry(w http.ResponseWriter, r *http.Request) error {
	var req ExpiryRequest
	if err := readBody(w, r, &req); err != nil {
		return err
	}
	left := time.Until(req.At)
	if left < time.Second {
		return badRequest("the machine cannot expire at %s: it is past that", req.At.Format(time.RFC3339))
	}
	s.machine.Lock()
	defer s.machine.Unlock()
	var err error
	if dir := localMachine(); dir != "" {
		err = writeWhole(filepath.Join(dir, "expiry"), []byte(req.At.UTC().Format(time.RFC3339)+"\n"))
	} else {
		err = asRoot(r.Context(), nil, "expire", strconv.FormatInt(int64(left/time.Second), 10))
	}
	if err != nil {
		return fmt.Errorf("moving the timer that powers the machine off: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
