// java -Dsun.net.httpserver.nodelay=true -Xmx256m Server leak|cache|churn [BYTES] [BOUND]
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.*;

public class Server {
    static final List<byte[]> held = new ArrayList<>();

    public static void main(String[] args) throws Exception {
        String mode = args[0];
        int size = args.length > 1 ? Integer.parseInt(args[1]) : 4000;
        int bound = args.length > 2 ? Integer.parseInt(args[2]) : 20000;
        Map<String, byte[]> cache = new LinkedHashMap<>(16, 0.75f, true) {
            protected boolean removeEldestEntry(Map.Entry<String, byte[]> e) { return size() > bound; }
        };
        HttpServer server = HttpServer.create(
            new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 0);
        server.createContext("/", exchange -> {
            List<String> rows = new ArrayList<>();
            for (int i = 0; i < 500; i++) rows.add("row " + i + " of " + exchange.getRequestURI());
            if (mode.equals("leak")) held.add(new byte[size]);
            if (mode.equals("cache")) cache.put(exchange.getRequestURI().toString(), new byte[size]);
            byte[] body = String.join("\n", rows).getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
