package emulator

import "net/http"

func (e *Emulator) serveGCP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
