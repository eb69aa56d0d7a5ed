package emulator

import "net/http"

func (e *Emulator) serveAWS(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
