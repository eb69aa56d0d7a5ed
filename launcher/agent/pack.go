package agent

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	// packChunk is how much content is judged, packed and sent at once.
	packChunk = 256 << 10
	// packProbe is after how many chunks sent as they are compression is tried
	// again: content and lines change.
	packProbe = 64
)

// packer writes a zstd stream of independent frames, one a chunk. It compresses a
// chunk when that takes less time than the bytes it saves would take on the way,
// and stores it otherwise: on a fast line, or for content that does not shrink,
// compression is a loss.
type packer struct {
	w     io.Writer
	enc   *zstd.Encoder
	chunk []byte // content not yet sent
	out   []byte // what it becomes

	// What the last chunks have taught, in seconds a byte; 0 is not known yet.
	compressing float64 // of content
	sending     float64 // of what goes out
	ratio       float64 // bytes out for a byte of content
	stored      int     // chunks since compression was last tried
}

// Write takes content. It is sent when a chunk is full.
func (p *packer) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		take := min(len(b), packChunk-len(p.chunk))
		p.chunk, b = append(p.chunk, b[:take]...), b[take:]
		if len(p.chunk) == packChunk {
			if err := p.flush(); err != nil {
				return n - len(b), err
			}
		}
	}
	return n, nil
}

// flush sends what there is.
func (p *packer) flush() error {
	if len(p.chunk) == 0 {
		return nil
	}
	p.pack()
	p.chunk = p.chunk[:0]
	began := time.Now()
	_, err := p.w.Write(p.out)
	learn(&p.sending, time.Since(began).Seconds()/float64(len(p.out)))
	return err
}

// pack makes out of chunk.
func (p *packer) pack() {
	pays := p.compressing == 0 || p.sending*(1-p.ratio) > p.compressing
	if p.stored++; pays || p.stored >= packProbe {
		p.stored = 0
		began := time.Now()
		p.out = p.enc.EncodeAll(p.chunk, p.out[:0])
		learn(&p.compressing, time.Since(began).Seconds()/float64(len(p.chunk)))
		learn(&p.ratio, float64(len(p.out))/float64(len(p.chunk)))
		if len(p.out) < len(p.chunk) {
			return
		}
	}
	p.out = appendStored(p.out[:0], p.chunk)
}

// learn moves an estimate half way to what was just seen.
func learn(estimate *float64, seen float64) {
	if *estimate == 0 {
		*estimate = seen
		return
	}
	*estimate = (*estimate + seen) / 2
}

// appendStored appends content as a zstd frame of raw blocks (RFC 8878, 3.1.1): a
// header that gives a window of 128 KiB, which is also the largest block, then
// blocks whose 3-byte header is size<<3 | type raw (0) <<1 | last.
func appendStored(out, content []byte) []byte {
	const blockMax = 128 << 10
	out = append(out, 0x28, 0xb5, 0x2f, 0xfd, 0x00, (17-10)<<3)
	for {
		block := content[:min(len(content), blockMax)]
		content = content[len(block):]
		header := uint32(len(block)) << 3
		if len(content) == 0 {
			header |= 1
		}
		var le [4]byte
		binary.LittleEndian.PutUint32(le[:], header)
		out = append(append(out, le[:3]...), block...)
		if len(content) == 0 {
			return out
		}
	}
}
