// What the page says, in both languages. Code, SQL and what the API answers stay as they are.

export const TEXTS = {
  en: {
    title: "See the session",
    intro:
      "Change a user, press a button of a lesson, or call the API from another window. " +
      "Each request appears with all that it does to the database.",
    users: "Users",
    search: "Search",
    name: "Name",
    email: "Email",
    active: "Active",
    actions: "Actions",
    yes: "yes",
    no: "no",
    edit: "Edit",
    remove: "Delete",
    previous: "Previous",
    next: "Next",
    page: (page, pages, total) => `Page ${page} of ${pages}, ${total} ${total === 1 ? "user" : "users"}`,
    add: "Add a user",
    change: (id) => `Change user ${id}`,
    save: "Save",
    cancel: "Cancel",
    done: "Done",
    away: "The server does not answer",
    lessons: "Lessons",
    running: "running ...",
    answers: (counts) => `Answers: ${counts}`,
    requests: "Requests",
    requestsIntro:
      "The newest first, the last 200. Bars are drawn to scale; requests that ran at the same time " +
      "share one scale. Open a request, or click on a bar.",
    empty: "No request yet.",
    now: (requests, waiting, sessions, connections) =>
      `Now: requests ${requests}, waiting for their turn ${waiting}, with a session ${sessions}, ` +
      `with a connection ${connections}`,
    connection: (pool, number, used, size) =>
      `connection ${pool} ${number}` + (size ? `, ${used} of ${size} in use` : ""),
    goesOn: "goes on",
    badges: {
      commit: "COMMIT",
      rollback: "ROLLBACK",
      ended: "only reads: ROLLBACK has nothing to undo",
      read: "only reads: no BEGIN",
      none: "no connection taken",
    },
    values: (values) => `values: ${values}`,
    error: (error) => `error: ${error}`,
    legend: {
      turn: "waits for its turn",
      thread: "waits for a thread",
      wait: "waits for a connection",
      session: "session",
      connection: "connection",
      transaction: "transaction",
      sql: "statement",
      commit: "COMMIT",
      rollback: "ROLLBACK",
      answer: "answer",
    },
    steps: {
      body: "The request arrives",
      turn: "The request waits for its turn",
      thread: "The request waits for a thread",
      session: "A session is opened",
      wait: "The session waits for a connection",
      connection: "The session takes a connection from the pool",
      begin: "BEGIN",
      sql: "A statement:",
      commit: "COMMIT",
      rollback: "ROLLBACK",
      returned: "The connection goes back to the pool",
      closed: "The session is closed",
      answer: "The answer is sent",
    },
    explain: {
      body:
        "The server reads the request with its body, which may come slowly. There is no session " +
        "yet, so nobody has to wait for that.",
      thread:
        "Everything that is not async runs in a thread: opening the session, the endpoint, checking " +
        "the answer. There is a fixed number of them for all requests, and none is free now. If this " +
        "request already has a connection, it keeps it while it waits.",
      turn:
        "No more requests have a session at the same time than there are connections; the others " +
        "wait here, and take no thread while they wait. Without this queue, some would hold a " +
        "connection and wait for a thread, while others hold the threads and wait for a connection.",
      session:
        "This request gets a session of its own. It has no connection yet: it takes one for its " +
        "first statement.",
      wait:
        "All connections of the pool are lent. This request waits for one and keeps its thread " +
        "meanwhile, until somebody gives a connection back or the pool gives up.",
      connection:
        "The pool keeps connections open, because to open one takes long, and lends one to the " +
        "session. Nobody else can use it until it is given back.",
      begin:
        "A transaction begins: what is written from here on belongs together. Nobody else sees it " +
        "before the COMMIT.",
      sql:
        "One statement goes to the database, and its values go apart from it. So what somebody " +
        "typed can never be read as SQL.",
      commit:
        "What was written is stored for good, and everybody can see it. Only now may the answer " +
        "say that it has worked.",
      rollback:
        "Whatever was written since BEGIN is undone, as if it had never happened. A session that " +
        "is closed without a COMMIT ends like this, too.",
      ended:
        "This request has only read. ROLLBACK ends its transaction, and there is nothing to undo: " +
        "nothing is lost.",
      returned:
        "The connection is free again, for whoever asks next. It stays open.",
      closed:
        "The session lets go of its objects and of its connection. The next request gets a new " +
        "session.",
      answer:
        "The answer goes to the client. In this app the session has ended before that, so a client " +
        "that reads slowly keeps no connection.",
      early:
        "The answer goes to the client while the session is still open. It is closed only after " +
        "that, so a client that reads slowly keeps a connection.",
    },
    explainStatus: {
      404: "What was asked for is not there. To find that out, the database had to be asked.",
      nowhere: "There is nothing at this address. The database was not asked.",
      409:
        "The database has refused the statement, because the value is taken. The transaction was " +
        "rolled back, so nothing has changed.",
      413: "The body is longer than the app allows. It has not been read to its end.",
      422:
        "The input cannot be used, so the database was not asked. A session that was already open " +
        "was closed without ever taking a connection.",
      500: "The code has raised an exception that nobody had planned for. Here is what it says.",
      503:
        "The database could not be reached or was too busy. The header Retry-After says when to " +
        "try again.",
      other: "The request cannot be answered as it is. Nothing has changed.",
    },
    lesson: {
      many: [
        "20 requests at once",
        "Each takes 0.3 s. Look for the grey bars: as many have a session as there are connections " +
          "for reading, mostly eight; the others wait for their turn.",
      ],
      forget: [
        "Forget to commit",
        "POST /lesson/forget answers with a user, who has an id. Look for the ROLLBACK; the search " +
          "after it finds nobody.",
      ],
      "n-plus-1": [
        "N+1 statements",
        "Both read users and their posts. Count the statements: /lesson/naive needs one for the " +
          "list and one more for each user, /lesson/eager two in all.",
      ],
      "same-email": [
        "The same email, twice",
        "Two clients register the same email at the same time. One gets 201 and a COMMIT, the " +
          "other 409 and a ROLLBACK: the database decides, not a check before it.",
      ],
      classic: [
        "The classic snippet",
        "Four requests, two connections, two threads. On /classic all four are answered. On /checked, " +
          "which checks its answers as a response_model does, two hold the threads and wait for a " +
          "connection, and two hold the connections and wait for a thread, until the pool gives up " +
          "after 2 s. On /ours all four are answered, checked as well.",
      ],
    },
  },
  fr: {
    title: "Voir la session",
    intro:
      "Modifiez un utilisateur, lancez une leçon ou appelez l'API depuis une autre fenêtre. " +
      "Chaque requête apparaît avec tout ce qu'elle fait dans la base de données.",
    users: "Utilisateurs",
    search: "Rechercher",
    name: "Nom",
    email: "E-mail",
    active: "Actif",
    actions: "Actions",
    yes: "oui",
    no: "non",
    edit: "Modifier",
    remove: "Supprimer",
    previous: "Précédent",
    next: "Suivant",
    page: (page, pages, total) =>
      `Page ${page} sur ${pages}, ${total} ${total > 1 ? "utilisateurs" : "utilisateur"}`,
    add: "Ajouter un utilisateur",
    change: (id) => `Modifier l'utilisateur ${id}`,
    save: "Enregistrer",
    cancel: "Annuler",
    done: "C'est fait",
    away: "Le serveur ne répond pas",
    lessons: "Leçons",
    running: "en cours…",
    answers: (counts) => `Réponses\u00a0: ${counts}`,
    requests: "Requêtes",
    requestsIntro:
      "Les plus récentes d'abord, les 200 dernières. Les barres sont à l'échelle\u00a0; les requêtes " +
      "simultanées partagent la même échelle. Ouvrez une requête ou cliquez sur une barre.",
    empty: "Aucune requête pour l'instant.",
    now: (requests, waiting, sessions, connections) =>
      `En ce moment\u00a0: ${requests} ${requests > 1 ? "requêtes" : "requête"}, ${waiting} en attente, ` +
      `${sessions} avec une session, ${connections} avec une connexion`,
    connection: (pool, number, used, size) =>
      `connexion ${pool} ${number}` + (size ? `, ${used} prise${used > 1 ? "s" : ""} sur ${size}` : ""),
    goesOn: "en cours",
    badges: {
      commit: "COMMIT",
      rollback: "ROLLBACK",
      ended: "lecture\u00a0: le ROLLBACK n'a rien à annuler",
      read: "lecture\u00a0: pas de BEGIN",
      none: "aucune connexion prise",
    },
    values: (values) => `valeurs\u00a0: ${values}`,
    error: (error) => `erreur\u00a0: ${error}`,
    legend: {
      turn: "attend son tour",
      thread: "attend un thread",
      wait: "attend une connexion",
      session: "session",
      connection: "connexion",
      transaction: "transaction",
      sql: "instruction SQL",
      commit: "COMMIT",
      rollback: "ROLLBACK",
      answer: "réponse",
    },
    steps: {
      body: "La requête arrive",
      turn: "La requête attend son tour",
      thread: "La requête attend un thread",
      session: "Une session s'ouvre",
      wait: "La session attend une connexion",
      connection: "La session prend une connexion dans le pool",
      begin: "BEGIN",
      sql: "Une instruction SQL\u00a0:",
      commit: "COMMIT",
      rollback: "ROLLBACK",
      returned: "La connexion retourne dans le pool",
      closed: "La session se ferme",
      answer: "La réponse part",
    },
    explain: {
      body:
        "Le serveur lit la requête et son contenu, qui peut arriver lentement. Aucune session n'est " +
        "encore ouverte\u00a0: personne n'a donc à attendre.",
      thread:
        "Tout ce qui n'est pas async s'exécute dans un thread\u00a0: l'ouverture de la session, la route, " +
        "la vérification de la réponse. Toutes les requêtes se partagent un nombre fixe de threads, et " +
        "aucun n'est libre. Si cette requête a déjà une connexion, elle la garde en attendant.",
      turn:
        "Il n'y a jamais plus de sessions ouvertes que de connexions\u00a0; les autres requêtes attendent " +
        "ici, sans occuper de thread. Sans cette file, certaines garderaient une connexion en " +
        "attendant un thread, pendant que d'autres garderaient les threads en attendant une connexion.",
      session:
        "Cette requête reçoit une session rien que pour elle. La session n'a pas encore de " +
        "connexion\u00a0: elle en prendra une pour sa première instruction.",
      wait:
        "Toutes les connexions du pool sont prises. Cette requête en attend une et garde son thread " +
        "en attendant, jusqu'à ce qu'une connexion soit rendue ou que le pool abandonne.",
      connection:
        "Le pool garde des connexions ouvertes, car il est long d'en ouvrir une, et en prête une à la " +
        "session. Personne d'autre ne peut s'en servir avant qu'elle soit rendue.",
      begin:
        "Une transaction commence\u00a0: tout ce qui est écrit à partir d'ici forme un ensemble. " +
        "Personne d'autre ne le voit avant le COMMIT.",
      sql:
        "Une instruction part vers la base, et ses valeurs voyagent à part. Ce que quelqu'un a " +
        "saisi ne peut donc jamais être lu comme du SQL.",
      commit:
        "Ce qui a été écrit est enregistré définitivement, et tout le monde peut le voir. C'est " +
        "seulement maintenant que la réponse a le droit d'annoncer un succès.",
      rollback:
        "Tout ce qui a pu être écrit depuis BEGIN est annulé, comme si rien ne s'était passé. Une " +
        "session fermée sans COMMIT se termine ainsi, elle aussi.",
      ended:
        "Cette requête n'a fait que lire. Le ROLLBACK termine sa transaction, et il n'y a rien à " +
        "annuler\u00a0: rien n'est perdu.",
      returned:
        "La connexion est libre, pour la prochaine session qui en demande une. Elle reste ouverte.",
      closed:
        "La session abandonne ses objets et sa connexion. La requête suivante recevra une nouvelle " +
        "session.",
      answer:
        "La réponse part vers le client. Dans cette application, la session est déjà terminée\u00a0: un " +
        "client qui lit lentement ne retient pas de connexion.",
      early:
        "La réponse part vers le client alors que la session est encore ouverte. Elle ne se ferme " +
        "qu'ensuite\u00a0: un client qui lit lentement retient une connexion.",
    },
    explainStatus: {
      404: "Ce qui est demandé n'existe pas. Pour le savoir, il a fallu interroger la base.",
      nowhere: "Il n'y a rien à cette adresse. La base n'a pas été interrogée.",
      409:
        "La base a refusé l'instruction, car la valeur est déjà prise. La transaction a été " +
        "annulée\u00a0: rien n'a changé.",
      413: "Le contenu est plus long que l'application ne l'accepte. Il n'a pas été lu jusqu'au bout.",
      422:
        "Les données reçues sont inutilisables\u00a0: la base n'a pas été interrogée. Une session déjà " +
        "ouverte a été fermée sans avoir jamais pris de connexion.",
      500: "Le code a levé une exception que personne n'avait prévue. Voici ce qu'elle dit.",
      503:
        "La base était injoignable ou surchargée. L'en-tête Retry-After dit quand réessayer.",
      other: "On ne peut pas répondre à cette requête telle qu'elle est. Rien n'a changé.",
    },
    lesson: {
      many: [
        "20 requêtes à la fois",
        "Chacune dure 0,3\u00a0s. Les barres grises sont l'attente\u00a0: il n'y a jamais plus de " +
          "sessions que de connexions pour la lecture, en général huit, et les autres requêtes attendent leur tour.",
      ],
      forget: [
        "Oublier le commit",
        "POST /lesson/forget répond avec un utilisateur, qui a même un id. Regardez le ROLLBACK\u00a0; " +
          "la recherche qui suit ne trouve personne.",
      ],
      "n-plus-1": [
        "N+1 instructions",
        "Les deux routes lisent des utilisateurs et leurs articles. Comptez les instructions\u00a0: " +
          "/lesson/naive en fait une pour la liste, puis une par utilisateur, /lesson/eager deux en " +
          "tout.",
      ],
      "same-email": [
        "Le même e-mail, deux fois",
        "Deux clients s'inscrivent en même temps avec la même adresse. L'un reçoit 201 et un COMMIT, " +
          "l'autre 409 et un ROLLBACK\u00a0: c'est la base qui tranche, pas une vérification préalable.",
      ],
      classic: [
        "Le code classique",
        "Quatre requêtes, deux connexions, deux threads. Sur /classic, les quatre reçoivent une " +
          "réponse. Sur /checked, qui vérifie ses réponses comme le fait un response_model, deux " +
          "occupent les threads et attendent une connexion, et deux occupent les connexions et " +
          "attendent un thread, jusqu'à ce que le pool abandonne au bout de 2\u00a0s. Sur /ours, les quatre " +
          "réponses arrivent, vérifiées elles aussi.",
      ],
    },
  },
};
