// desk MODE [BYTES] [BOUND]: sessions in a sync.Map, waiting goroutines, a ring, templates.
package main

import (
	"bytes"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/template"
)

func number(index, otherwise int) int {
	if len(os.Args) > index {
		value, _ := strconv.Atoi(os.Args[index])
		return value
	}
	return otherwise
}

var page = template.Must(template.New("page").Parse(`{{range .}}<li>{{.}}</li>{{end}}`))

func main() {
	mode, size, bound := os.Args[1], number(2, 4000), number(3, 10000)
	var sessions sync.Map
	var served atomic.Int64
	var log bytes.Buffer
	var lock sync.Mutex
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		n := int(served.Add(1))
		rows := strings.Fields(strings.Repeat(request.URL.Path+" ", 50))
		text := strings.Repeat("session ", size/8)
		switch mode {
		case "sessions":
			sessions.Store(n, text)
		case "ring":
			sessions.Store(n%bound, text)
		case "waiting":
			go func() { select {} }()
		case "log":
			lock.Lock()
			log.WriteString(text)
			lock.Unlock()
		}
		page.Execute(response, rows)
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
