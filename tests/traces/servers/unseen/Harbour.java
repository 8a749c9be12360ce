// java Harbour MODE [BYTES] [BOUND]: Jetty, Caffeine and Jackson, as a harbour's services have them.
//   counters  a map of ships by path
//   sessions  servlet sessions without an end
//   waiting   futures that nobody completes, with what they would do
//   loaders   a class loader a request, kept with its class
//   inflater  deflaters, never ended
//   interned  strings in a set
//   caffeine  Caffeine, BOUND entries
//   expiring  Caffeine, entries live BOUND seconds
//   jackson   JSON there and back
//   sorting   sorts a large list every BOUND requests
//   weak      a weak map by key objects
//   statement a ring of the last BOUND statements
import com.fasterxml.jackson.databind.ObjectMapper;
import com.github.benmanes.caffeine.cache.*;
import java.io.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.*;
import java.util.zip.Deflater;
import javax.servlet.http.*;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.servlet.*;

public class Harbour {
    public static class Ship {
        public String name = "ship " + Math.random();
        public List<String> freight;
        Ship() {}
        Ship(int bytes) {
            freight = IntStream.range(0, bytes / 80).mapToObj(n -> "freight " + n + Math.random()).collect(Collectors.toList());
        }
    }

    static final Map<Object, Object> kept = new ConcurrentHashMap<>();
    static final Map<Object, Object> weak = Collections.synchronizedMap(new WeakHashMap<>());
    static final Queue<Object> list = new ConcurrentLinkedQueue<>();
    static final CompletableFuture<Ship> never = new CompletableFuture<>();
    static byte[] code;

    static class Loader extends ClassLoader {
        Class<?> load() { return defineClass(null, code, 0, code.length); }
    }

    public static void main(String[] args) throws Exception {
        String mode = args[0];
        int bytes = args.length > 1 ? Integer.parseInt(args[1]) : 4000;
        int bound = args.length > 2 ? Integer.parseInt(args[2]) : 20000;
        try (InputStream in = Harbour.class.getResourceAsStream("Harbour$Ship.class")) { code = in.readAllBytes(); }
        ObjectMapper mapper = new ObjectMapper();
        Cache<Object, Object> sized = Caffeine.newBuilder().maximumSize(bound).build();
        Cache<Object, Object> timed = Caffeine.newBuilder().expireAfterWrite(bound, TimeUnit.SECONDS).build();
        AtomicInteger served = new AtomicInteger();
        HttpServlet servlet = new HttpServlet() {
            @Override
            protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
                int n = served.incrementAndGet();
                Ship one = new Ship(bytes);
                switch (mode) {
                    case "counters" -> kept.put(request.getPathInfo(), one);
                    case "sessions" -> request.getSession(true).setAttribute("ship", one);
                    case "waiting" -> list.add(never.thenApply(ship -> ship.name + one.name + one.freight.size()));
                    case "loaders" -> list.add(new Loader().load());
                    case "inflater" -> {
                        Deflater deflater = new Deflater();
                        deflater.setInput(one.name.getBytes());
                        deflater.deflate(new byte[100]);
                        list.add(deflater);
                    }
                    case "interned" -> one.freight.forEach(text -> kept.put(text.intern(), Boolean.TRUE));
                    case "caffeine" -> sized.put(request.getPathInfo(), one);
                    case "expiring" -> timed.put(n, one);
                    case "jackson" -> mapper.readValue(mapper.writeValueAsString(one), Map.class);
                    case "sorting" -> {
                        if (n % bound == 0) list.addAll(Stream.generate(() -> new Ship(bytes)).limit(2000)
                            .sorted(Comparator.comparing(ship -> ship.name)).limit(0).toList());
                    }
                    case "weak" -> weak.put(new Object(), one);
                    case "statement" -> kept.put(n % bound, mapper.writeValueAsString(one));
                    default -> throw new IllegalArgumentException(mode);
                }
                response.setContentType("application/json");
                response.getWriter().write(mapper.writeValueAsString(one.freight.subList(0, 10)));
            }
        };
        Server server = new Server(new java.net.InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))));
        ServletContextHandler context = new ServletContextHandler(ServletContextHandler.SESSIONS);
        context.addServlet(new ServletHolder(servlet), "/*");
        server.setHandler(context);
        server.start();
    }
}
