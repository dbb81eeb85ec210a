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
    answers: "Answers",
    requests: "Requests",
    requestsIntro:
      "The newest first, the last 200. Bars are drawn to scale; requests that ran at the same time " +
      "share one scale. Open a request, or click on a bar.",
    empty: "No request yet.",
    now: (requests, waiting, sessions, connections) =>
      `Now: ${requests} requests; ${waiting} wait for their turn, ${sessions} have a session, ` +
      `${connections} have a connection`,
    connection: (pool, number, used, size) => `connection ${pool} ${number}, ${used} of ${size} in use`,
    goesOn: "goes on",
    badges: {
      commit: "COMMIT",
      rollback: "ROLLBACK",
      read: "only reads: no BEGIN",
      none: "no connection taken",
    },
    values: "values",
    error: "error",
    legend: {
      turn: "waits for its turn",
      session: "session",
      connection: "connection",
      transaction: "transaction",
      sql: "statement",
      commit: "COMMIT",
      rollback: "ROLLBACK",
      answer: "answer",
    },
    steps: {
      turn: "The request waits for its turn",
      session: "A session is opened",
      connection: "It takes a connection from the pool",
      begin: "BEGIN",
      sql: "A statement",
      commit: "COMMIT",
      rollback: "ROLLBACK",
      returned: "The connection goes back to the pool",
      closed: "The session is closed",
      answer: "The answer is sent",
    },
    explain: {
      turn:
        "No more requests have a session at the same time than there are connections; the others " +
        "wait here, and take no thread while they wait. Without this queue, some would hold a " +
        "connection and wait for a thread, while others hold the threads and wait for a connection.",
      session:
        "This request gets a session of its own. It has no connection yet: it takes one for its " +
        "first statement.",
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
      returned:
        "The connection is free again, for whoever asks next. It stays open.",
      closed:
        "The session forgets its objects and cannot be used any more. The next request gets a new " +
        "one.",
      answer:
        "The answer goes to the client. In this app the session has ended before that, so a client " +
        "that reads slowly keeps no connection.",
    },
    explainStatus: {
      404: "What was asked for is not there. To find that out, the database had to be asked.",
      409:
        "The database has refused the statement, because the value is taken. The transaction was " +
        "rolled back, so nothing has changed.",
      422:
        "The input cannot be used, and the database was not asked. The session was handed back " +
        "without ever taking a connection.",
      500: "The code has failed. The server's log says where.",
      503: "The database was away or had no time. The header Retry-After says when to try again.",
    },
    lesson: {
      many: [
        "20 requests at once",
        "Each takes 0.3 s. Look for the grey bars: ten have a session, one for each connection of " +
          "the pool; the other ten wait for their turn.",
      ],
      forget: [
        "Forget to commit",
        "POST /lesson/forget answers with a user, who has an id. Look for the ROLLBACK; the search " +
          "after it finds nobody.",
      ],
      "n-plus-1": [
        "N+1 statements",
        "Both read users and their posts. Count the statements: /lesson/naive needs one for each " +
          "user, /lesson/eager two in all.",
      ],
      "same-email": [
        "The same email, twice",
        "Two clients register the same email at the same time. One gets 201 and a COMMIT, the " +
          "other 409 and a ROLLBACK: the database decides, not a check before it.",
      ],
      classic: [
        "The classic snippet",
        "Four requests, two connections, two threads. On /classic everybody waits for everybody, " +
          "until the pool gives up after 2 s; on /ours all four are answered.",
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
    running: "en cours...",
    answers: "Réponses",
    requests: "Requêtes",
    requestsIntro:
      "Les plus récentes d'abord, les 200 dernières. Les barres sont à l'échelle\u00a0; les requêtes " +
      "simultanées partagent la même échelle. Ouvrez une requête ou cliquez sur une barre.",
    empty: "Aucune requête pour l'instant.",
    now: (requests, waiting, sessions, connections) =>
      `En ce moment\u00a0: requêtes\u00a0: ${requests}, dont en attente\u00a0: ${waiting}, avec une session\u00a0: ` +
      `${sessions}, avec une connexion\u00a0: ${connections}`,
    connection: (pool, number, used, size) => `connexion ${pool} ${number}, ${used} sur ${size} prises`,
    goesOn: "en cours",
    badges: {
      commit: "COMMIT",
      rollback: "ROLLBACK",
      read: "lecture\u00a0: pas de BEGIN",
      none: "aucune connexion prise",
    },
    values: "valeurs",
    error: "erreur",
    legend: {
      turn: "attend son tour",
      session: "session",
      connection: "connexion",
      transaction: "transaction",
      sql: "instruction SQL",
      commit: "COMMIT",
      rollback: "ROLLBACK",
      answer: "réponse",
    },
    steps: {
      turn: "La requête attend son tour",
      session: "Une session s'ouvre",
      connection: "Elle prend une connexion dans le pool",
      begin: "BEGIN",
      sql: "Une instruction SQL",
      commit: "COMMIT",
      rollback: "ROLLBACK",
      returned: "La connexion retourne dans le pool",
      closed: "La session se ferme",
      answer: "La réponse part",
    },
    explain: {
      turn:
        "Il n'y a jamais plus de requêtes avec une session que de connexions\u00a0; les autres attendent " +
        "ici, sans occuper de thread. Sans cette file, certaines garderaient une connexion en " +
        "attendant un thread, pendant que d'autres garderaient les threads en attendant une connexion.",
      session:
        "Cette requête reçoit une session rien que pour elle. La session n'a pas encore de " +
        "connexion\u00a0: elle en prendra une pour sa première instruction.",
      connection:
        "Le pool garde des connexions ouvertes, car en ouvrir une est long, et en prête une à la " +
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
      returned:
        "La connexion est libre, pour la prochaine session qui en demande une. Elle reste ouverte.",
      closed:
        "La session oublie ses objets et ne peut plus servir. La requête suivante en recevra une " +
        "nouvelle.",
      answer:
        "La réponse part vers le client. Dans cette application, la session est déjà terminée\u00a0: un " +
        "client qui lit lentement ne retient pas de connexion.",
    },
    explainStatus: {
      404: "Ce qui est demandé n'existe pas. Pour le savoir, il a fallu interroger la base.",
      409:
        "La base a refusé l'instruction, car la valeur est déjà prise. La transaction a été " +
        "annulée\u00a0: rien n'a changé.",
      422:
        "Les données reçues sont inutilisables, et la base n'a pas été interrogée. La session a été " +
        "rendue sans avoir jamais pris de connexion.",
      500: "Le code a échoué. Le journal du serveur dit où.",
      503: "La base était absente ou occupée. L'en-tête Retry-After dit quand réessayer.",
    },
    lesson: {
      many: [
        "20 requêtes à la fois",
        "Chacune dure 0,3 s. Regardez les barres grises\u00a0: dix requêtes ont une session, une par " +
          "connexion du pool\u00a0; les dix autres attendent leur tour.",
      ],
      forget: [
        "Oublier le commit",
        "POST /lesson/forget répond avec un utilisateur, qui a même un id. Regardez le ROLLBACK\u00a0; " +
          "la recherche qui suit ne trouve personne.",
      ],
      "n-plus-1": [
        "N+1 instructions",
        "Les deux lisent des utilisateurs et leurs articles. Comptez les instructions\u00a0: " +
          "/lesson/naive en fait une par utilisateur, /lesson/eager deux en tout.",
      ],
      "same-email": [
        "Le même e-mail, deux fois",
        "Deux clients inscrivent le même e-mail en même temps. L'un reçoit 201 et un COMMIT, " +
          "l'autre 409 et un ROLLBACK\u00a0: c'est la base qui tranche, pas une vérification préalable.",
      ],
      classic: [
        "Le code classique",
        "Quatre requêtes, deux connexions, deux threads. Sur /classic, tout le monde attend tout " +
          "le monde, jusqu'à ce que le pool abandonne au bout de 2 s\u00a0; sur /ours, les quatre " +
          "reçoivent une réponse.",
      ],
    },
  },
};
